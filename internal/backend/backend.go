// Package backend opens the compute backend a command runs on, and says why it was chosen.
//
// Two backends exist: "go" (pure Go, always there) and "xla" (a PJRT plugin; "xla:cpu" or "xla:cuda"). A build without
// a C compiler has no XLA. Nothing here ever downloads a plugin.
package backend

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend" // registers "go"
)

// Auto lets Open choose: XLA on CUDA, else XLA on the CPU, else Go.
const Auto = "auto"

// Choice is an opened backend with the reason for it.
type Choice struct {
	// Backend is no embedded field, lest a Choice be passed as a backend: GoMLX compares backends by identity.
	Backend compute.Backend
	Config  string // as GoMLX's GOMLX_BACKEND would name it: "go:ops_sequential", "xla:cpu", "xla:cuda,tf32=false,preallocate=false"
	Reason  string // a clause for people: "no PJRT plugin found"
}

// Open opens the backend called name: "", Auto, "go", "xla", "xla:cpu", "xla:cuda" or any GoMLX configuration of these.
//
// "go" is opened as "go:ops_sequential": with compute v0.1.4 independent large matrix products that start together wait
// for one another's workers and never end (16 products of 256 x 256 do); one operation at a time is also as fast where
// each uses all processors.
//
// On CUDA it turns TF32 off, whose ten-bit mantissa would leave three digits in a metric product, and preallocation
// off, so that a training process keeps its memory. On the CPU it has XLA compute sums itself, for those of the library YNNPACK can
// be wrong (package sums).
func Open(name string) (Choice, error) {
	config, reason := name, "asked for"
	if name == "" || name == Auto || name == "xla" {
		config, reason = choose(name)
	}
	kind, isXLA := strings.CutPrefix(config, "xla:")
	kind, _, options := strings.Cut(kind, ",")
	plugin, found := Plugins()[kind]
	switch {
	case config == "xla" || isXLA && !found:
		return Choice{}, &MissingError{name, kind, slices.Sorted(maps.Keys(Plugins()))}
	case isXLA && kind == "cuda" && !options:
		config += ",tf32=false,preallocate=false"
	case isXLA:
	case config == "go":
		config = "go:ops_sequential"
	case !strings.HasPrefix(config, "go:"):
		return Choice{}, fmt.Errorf("backend: unknown backend %q; use auto, go, xla, xla:cpu or xla:cuda", name)
	}
	open := func() (compute.Backend, error) { return compute.NewWithConfig(config) }
	if kind == "cpu" {
		open = withOwnSums(plugin, open)
	}
	opened, err := open()
	if err != nil {
		return Choice{}, fmt.Errorf("backend: cannot open %q: %w", config, err)
	}
	return Choice{Backend: opened, Config: config, Reason: reason}, nil
}

// MissingError says that the plugin of a backend is not there.
type MissingError struct {
	Name   string   // of the backend that was to be opened: "xla:cuda"
	kind   string   // of the plugin: "cuda"; "" for any
	others []string // kinds of plugin that there are
}

func (e *MissingError) Error() string {
	const use = "set PJRT_PLUGIN_LIBRARY_PATH to the folder it "
	found := ""
	if len(e.others) > 0 {
		found = " (found: " + strings.Join(e.others, ", ") + ")"
	}
	switch {
	case !xlaBuilt:
		return fmt.Sprintf("backend %q: this symaudit has no XLA, for it was built without a C compiler; build it with one, or use --backend=go", e.Name)
	case e.kind == "" || e.kind == "xla" || e.kind == "cpu":
		return fmt.Sprintf("backend %q: no PJRT plugin for it was found that works%s; run scripts/install-xla and %sprints, or use --backend=go", e.Name, found, use)
	}
	from := ""
	if e.kind == "cuda" {
		from = ", which the Python package jax-cuda13-pjrt has,"
	}
	return fmt.Sprintf("backend %q: no PJRT plugin for %s was found that works%s; install one%s and %slies in, or use --backend=go", e.Name, e.kind, found, from, use)
}

func choose(name string) (config, reason string) {
	plugins := Plugins()
	for _, kind := range []string{"cuda", "cpu"} {
		if path, found := plugins[kind]; found {
			return "xla:" + kind, "PJRT plugin " + path + " found"
		}
	}
	if name == "xla" {
		return name, ""
	}
	if !xlaBuilt {
		return "go", "this build has no XLA: it was built without a C compiler"
	}
	return "go", "no working PJRT plugin was found"
}
