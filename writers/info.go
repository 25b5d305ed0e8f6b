package writers

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// SchemaVersion is raised when a column changes its name, type or meaning, or the directory its layout.
const SchemaVersion = 2

const firstInfoName = "run.json"

// Kinds of run that symaudit's own commands make. A run of one kind is not resumed as another.
const (
	KindTraining = "training"
	KindAudit    = "audit" // of checkpoints
	KindShard    = "shard" // of such an audit: a part of its rows
)

// Info says what wrote a run. The caller fills in the first part, Done and Enter the second.
type Info struct {
	Kind          string   `json:"kind,omitempty"`    // KindTraining, KindAudit, or a program's own word
	Command       []string `json:"command,omitempty"` // the program and its arguments
	Config        string   `json:"config,omitempty"`  // the configuration in effect, as text
	Backend       string   `json:"backend,omitempty"` // "go", "xla:cpu", ...
	BackendReason string   `json:"backend_reason,omitempty"`
	Seeds         []int64  `json:"seeds,omitempty"`
	Shard         string   `json:"shard,omitempty"`       // which of how many, from 0 on: "0/4"
	Audited       string   `json:"audited,omitempty"`     // of audits of checkpoints: the run_id of the training
	Checkpoints   []string `json:"checkpoints,omitempty"` // of the same: all that are to be audited, such as "unet, seed 0, step 10"
	DataHash      string   `json:"data_hash,omitempty"`   // tells the data of a training from others, where the program knows it

	SchemaVersion int        `json:"schema_version"`
	Trainings     []Training `json:"trainings,omitempty"` // that have written in this attempt, or are about to
	RunID         string     `json:"run_id"`              // kept if the caller gives one; unique over all runs that are read together
	Attempt       int32      `json:"attempt"`
	ProbeHash     string     `json:"probe_hash,omitempty"` // of all probes, in runs of schema version 1; now in the settings of each training
	Created       time.Time  `json:"created"`
	Versions      Versions   `json:"versions"`
	Revision      string     `json:"revision,omitempty"` // of the program's source; ends in "+changes" if it was modified
}

// Versions of what computed the records; "(devel)" is a build from a source tree.
type Versions struct {
	Symaudit string `json:"symaudit"`
	Go       string `json:"go"`
	GoMLX    string `json:"gomlx"`
	GoXLA    string `json:"go_xla,omitempty"`
}

// complete returns info with its second part filled in for the given attempt.
func (info Info) complete(runID string, attempt int32) Info {
	info.SchemaVersion = SchemaVersion
	info.Attempt = attempt
	info.Created = time.Now().UTC().Truncate(time.Millisecond)
	if runID != "" {
		info.RunID = runID
	} else if info.RunID == "" {
		info.RunID = newRunID(info.Created)
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		info.Versions = versionsOf(build)
		info.Revision = revisionOf(build)
	}
	return info
}

// again is the description of the attempt after this one, by the same process.
func (info Info) again() Info { return info.complete(info.RunID, info.Attempt+1) }

// validate refuses text that JSON and Parquet cannot hold.
func (info Info) validate() error {
	for what, texts := range map[string][]string{
		"the kind of the run": {info.Kind}, "the command": info.Command, "the configuration": {info.Config},
		"the backend": {info.Backend, info.BackendReason}, "the run's id": {info.RunID},
	} {
		for _, text := range texts {
			if err := validText(what, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// kind is what made the run; that of version 1 says so by its command.
func (info Info) kind() string {
	if info.Kind != "" || len(info.Command) < 2 {
		return info.Kind
	}
	switch info.Command[1] {
	case "train", "demo":
		return KindTraining
	case "audit":
		return KindAudit
	}
	return ""
}

// newRunID sorts by time and does not collide between machines.
func newRunID(now time.Time) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the process instead
	return now.Format("20060102T150405Z") + "-" + hex.EncodeToString(random[:])
}

func versionsOf(build *debug.BuildInfo) Versions {
	version := func(path string) string {
		for _, module := range append([]*debug.Module{&build.Main}, build.Deps...) {
			if module.Path != path {
				continue
			}
			if module.Replace != nil && module.Replace.Version != "" {
				return module.Replace.Version
			}
			if module.Version == "" {
				return "(devel)"
			}
			return module.Version
		}
		return ""
	}
	return Versions{
		Symaudit: version("github.com/symaudit/symaudit"),
		Go:       build.GoVersion,
		GoMLX:    version("github.com/gomlx/gomlx"),
		GoXLA:    version("github.com/gomlx/go-xla"),
	}
}

func revisionOf(build *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, setting := range build.Settings {
		settings[setting.Key] = setting.Value
	}
	revision := settings["vcs.revision"]
	if revision != "" && settings["vcs.modified"] == "true" {
		revision += "+changes"
	}
	return revision
}

func infoName(attempt int32) string {
	if attempt == 1 {
		return firstInfoName
	}
	return fmt.Sprintf("run-attempt-%d.json", attempt)
}

func isInfoName(name string) bool {
	resumed, _ := filepath.Match("run-attempt-*.json", name)
	return name == firstInfoName || resumed
}

// readInfos returns the Info of every attempt, the first first; none where dir holds no run.
func readInfos(dir string) ([]Info, error) {
	paths, err := infoPaths(dir)
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	var infos []Info
	for _, path := range paths {
		info, err := readInfo(path)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.Attempt, b.Attempt) })
	for i, info := range infos {
		path := filepath.Join(dir, infoName(int32(i+1)))
		switch {
		case info.Attempt != int32(i+1):
			return nil, fmt.Errorf("writers: %s is missing, or says attempt %d; restore it from a copy", path, info.Attempt)
		case info.RunID == "" || info.RunID != infos[0].RunID:
			return nil, fmt.Errorf("writers: %s is the description of run %q, and %s of run %q; restore it from a copy", path, info.RunID, filepath.Join(dir, firstInfoName), infos[0].RunID)
		}
	}
	return infos, nil
}

// infoPaths are those of the descriptions, the first one whether it is there or not; none where dir holds none.
func infoPaths(dir string) ([]string, error) {
	resumes, err := filepath.Glob(filepath.Join(escapeGlob(dir), "run-attempt-*.json"))
	if err != nil {
		return nil, fmt.Errorf("writers: cannot list %s: %w", dir, err)
	}
	first := filepath.Join(dir, firstInfoName)
	if _, err := os.Lstat(first); os.IsNotExist(err) && len(resumes) == 0 {
		return nil, nil
	}
	return append([]string{first}, resumes...), nil
}

func readInfo(path string) (info Info, err error) {
	text, err := readBounded(path, maxInfo)
	if err != nil {
		return info, err
	}
	err = json.Unmarshal(text, &info)
	if _, other := err.(*json.UnmarshalTypeError); other {
		err = errors.New("it has other fields or values than symaudit writes")
	}
	switch {
	case err != nil:
		return info, fmt.Errorf("writers: %s is not the description of a run: %w; restore it from a copy", path, err)
	case info.SchemaVersion < 1:
		return info, fmt.Errorf("writers: %s is not the description of a run: it says schema version %d; restore it from a copy", path, info.SchemaVersion)
	case info.SchemaVersion > SchemaVersion:
		return info, fmt.Errorf("writers: %s has schema version %d, newer than this program's %d; use a newer symaudit",
			path, info.SchemaVersion, SchemaVersion)
	}
	return info, nil
}

// escapeGlob keeps a directory's own name from being taken for a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}
