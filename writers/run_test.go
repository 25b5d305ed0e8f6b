package writers

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/audit"
)

func TestWhatIsWrittenReadsBack(t *testing.T) {
	optional := rapid.Ptr(rapid.Float64(), true)
	text := rapid.String()
	moment := rapid.Custom(func(t *rapid.T) audit.Moment {
		return audit.Moment{Model: text.Draw(t, "model"), Seed: rapid.Int64().Draw(t, "seed"),
			Step: rapid.Int64().Draw(t, "step"), Epoch: rapid.Float64().Draw(t, "epoch")}
	})
	records := rapid.Custom(func(t *rapid.T) *audit.Records {
		return &audit.Records{
			Training: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) audit.TrainingRow {
				return audit.TrainingRow{Moment: moment.Draw(t, "moment"), Loss: rapid.Float64().Draw(t, "loss")}
			}), 0, 3).Draw(t, "training"),
			Influence: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) audit.InfluenceRow {
				return audit.InfluenceRow{Moment: moment.Draw(t, "moment"), Element: text.Draw(t, "element"),
					Batch: rapid.Int32().Draw(t, "batch"), Influence: math.NaN(),
					InfluenceLow: optional.Draw(t, "low"), Cosine: optional.Draw(t, "cosine")}
			}), 0, 3).Draw(t, "influence"),
			Coherence: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) audit.CoherenceRow {
				return audit.CoherenceRow{Moment: moment.Draw(t, "moment"), N: rapid.Int32().Draw(t, "n"),
					Median: optional.Draw(t, "median")}
			}), 0, 3).Draw(t, "coherence"),
		}
	})
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		require.NoError(t, err)
		run, err := Parquet(dir).Done()
		require.NoError(t, err)
		defer run.Close()
		written := rapid.SliceOfN(records, 0, 3).Draw(t, "writes")
		for _, records := range written {
			require.NoError(t, run.Write(records))
			stamped(run, records)
		}
		contents, err := Read(dir)
		require.NoError(t, err)
		requireSame(t, merged(written...), contents.Records)
	})
}

func TestWriteLeavesTheCallersRowsAlone(t *testing.T) {
	run := openRun(t, t.TempDir())
	records := auditAt(1)
	require.NoError(t, run.Write(records))
	requireSame(t, *auditAt(1), *records)
}

func TestPartsHaveOneNumberAcrossTablesAndEmptyTablesNone(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	require.NoError(t, run.Write(&audit.Records{}))
	require.NoError(t, run.Write(nil))
	require.NoError(t, run.Write(auditAt(1)))
	require.NoError(t, run.Write(trainingAt(2)))
	require.NoError(t, run.Write(auditAt(3)))
	for table, want := range map[string][]int{"training": {0, 1, 2}, "errors": {0, 2}, "coherence": {0, 2}} {
		visible, hidden, err := run.directory.list(table)
		require.NoError(t, err)
		require.Equal(t, want, visible, table)
		require.Empty(t, hidden, table)
	}
}

func TestInfoIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "runs", "a")
	given := Info{Command: []string{"symaudit", "train"}, Config: "seed: 3\n", Backend: "go",
		BackendReason: "asked for", Seeds: []int64{3}}
	run, err := Parquet(dir).WithInfo(given).Done()
	require.NoError(t, err)
	require.NoError(t, run.Close())
	contents, err := Read(dir)
	require.NoError(t, err)
	require.Equal(t, run.Info(), contents.Info)
	require.Equal(t, given.Config, contents.Info.Config)
	require.Equal(t, SchemaVersion, contents.Info.SchemaVersion)
	require.NotEmpty(t, contents.Info.RunID)
	require.NotEmpty(t, contents.Info.Versions.Go)
	require.WithinRange(t, contents.Info.Created, run.Info().Created, run.Info().Created)

	resumed, err := Parquet(dir).WithResume().WithInfo(Info{Backend: "xla:cpu"}).Done()
	require.NoError(t, err)
	require.Equal(t, run.ID(), resumed.ID())
	contents, err = Read(dir)
	require.NoError(t, err)
	require.Equal(t, "go", contents.Info.Backend)
	require.Equal(t, []Info{resumed.Info()}, contents.Resumes)
}

func TestOccupiedDirectoriesAreRefused(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	require.NoError(t, run.Write(trainingAt(1)))
	require.NoError(t, run.Close())
	for _, kind := range []string{"", KindTraining, KindAudit} {
		_, err := Parquet(dir).WithInfo(Info{Kind: kind}).Done()
		require.EqualError(t, err, "writers: "+dir+" already holds a run; resume it (WithResume), or choose another directory")
		var occupied *OccupiedError
		require.ErrorAs(t, err, &occupied)
		require.Equal(t, dir, occupied.Dir)
	}

	foreign := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "thesis.tex"), nil, 0o666))
	for _, builder := range []*Builder{Parquet(foreign), Parquet(foreign).WithResume()} {
		_, err := builder.Done()
		require.ErrorContains(t, err, "holds thesis.tex")
	}
	entries, err := os.ReadDir(foreign)
	require.NoError(t, err)
	require.Len(t, entries, 1, "a refused directory must stay as it was")
}

func TestTwoWritersAreRefused(t *testing.T) {
	dir := t.TempDir()
	first := openRun(t, dir)
	_, err := Parquet(dir).WithResume().Done()
	require.ErrorContains(t, err, "another process is writing to "+dir)
	require.NoError(t, first.Close())
	require.ErrorContains(t, first.Write(auditAt(1)), "is closed")
	require.Equal(t, int32(2), resumeRun(t, dir).Attempt())
}

func TestOfARepeatedStepTheHighestAttemptIsRead(t *testing.T) {
	dir := t.TempDir()
	first := resumeRun(t, dir) // nothing there yet: begins the run
	require.Equal(t, int32(1), first.Attempt())
	other := auditAt(2)
	for i := range other.Training {
		other.Training[i].Seed = 8
	}
	require.NoError(t, first.Write(auditAt(1)))
	require.NoError(t, first.Write(auditAt(2)))
	require.NoError(t, first.Write(&audit.Records{Training: other.Training}))
	require.NoError(t, first.Close())
	second := resumeRun(t, dir)
	require.Equal(t, int32(2), second.Attempt())
	require.NoError(t, second.Write(trainingAt(2)))
	require.NoError(t, second.Write(auditAt(3)))

	repeated := auditAt(2)
	repeated.Training = nil
	want := merged(stamped(first, auditAt(1)), stamped(first, repeated),
		stamped(first, &audit.Records{Training: other.Training}),
		stamped(second, trainingAt(2)), stamped(second, auditAt(3)))
	requireSame(t, want, readRecords(t, dir))
}

// A training that goes back leaves behind all that came after the step it went back to, also steps that are not logged again.
func TestALaterAttemptSupersedesFromItsFirstStepOn(t *testing.T) {
	dir := t.TempDir()
	write := func(run *Run, steps ...int64) {
		for _, step := range steps {
			require.NoError(t, run.Write(trainingAt(step)))
		}
		require.NoError(t, run.Close())
	}
	write(openRun(t, dir), 10, 20, 30, 40, 50)
	write(resumeRun(t, dir), 25, 35, 45) // from a checkpoint at 20
	third := resumeRun(t, dir)           // from one at 30
	require.NoError(t, third.Write(ofModel("vit", trainingAt(1))))
	write(third, 35)
	var kept []int64
	for _, row := range readRecords(t, dir).Training {
		if row.Model == "unet" {
			kept = append(kept, int64(row.Attempt), row.Step)
		}
	}
	require.Equal(t, []int64{1, 10, 1, 10, 1, 20, 1, 20, 2, 25, 2, 25, 3, 35, 3, 35}, kept)
}

func TestWriteNeverReplacesAFile(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	foreign := run.directory.visible("solves", 0)
	require.NoError(t, os.WriteFile(foreign, []byte("mine"), 0o666))
	require.ErrorContains(t, run.Write(auditAt(1)), foreign+" was put there by another program")
	content, err := os.ReadFile(foreign)
	require.NoError(t, err)
	require.Equal(t, "mine", string(content))
}

func TestConcurrentWrites(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	const writers, writes = 4, 5
	var pending sync.WaitGroup
	for writer := range writers {
		pending.Go(func() {
			for i := range writes {
				if err := run.Write(auditAt(int64(100*writer + i))); err != nil {
					t.Errorf("write: %v", err)
				}
			}
		})
	}
	pending.Wait()
	require.Len(t, requireWholeAudits(t, readRecords(t, dir)), writers*writes)
}

func TestAReaderBesideAWriterSeesWholePartsOnly(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	const writes = 40
	written := make(chan error, 1)
	go func() {
		var failure error
		for i := range writes {
			failure = errors.Join(failure, run.Write(auditAt(int64(i))))
		}
		written <- failure
	}()
	for done := false; !done; {
		select {
		case err := <-written:
			require.NoError(t, err)
			done = true
		default:
		}
		parts, err := run.directory.wholeParts()
		require.NoError(t, err)
		for _, table := range tableNames() {
			require.ElementsMatch(t, parts["training"], parts[table], table)
		}
	}
	require.Len(t, requireWholeAudits(t, readRecords(t, dir)), writes)
}

func TestANewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	require.NoError(t, run.Close())
	newer := run.Info()
	newer.SchemaVersion = SchemaVersion + 1
	text, err := json.Marshal(newer)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, firstInfoName), text, 0o666))
	_, err = Read(dir)
	require.ErrorContains(t, err, "use a newer symaudit")
	_, err = Parquet(dir).WithResume().Done()
	require.ErrorContains(t, err, "use a newer symaudit")
}

func TestSomeTablesAreReadAlone(t *testing.T) {
	for _, dir := range []string{threeAudits(t).path, version1} {
		whole, err := Read(dir)
		require.NoError(t, err)
		some, err := Read(dir, "training", "coherence")
		require.NoError(t, err)
		require.Equal(t, whole.Records.Coherence, some.Records.Coherence)
		require.Equal(t, whole.Records.Training, some.Records.Training)
		if dir != version1 { // whose rows are completed by those of other tables
			require.Empty(t, some.Records.Errors)
		}
	}
	_, err := Read(version1, "coherense")
	require.EqualError(t, err, `writers: there is no table "coherense"; use some of `+strings.Join(tableNames(), ", "))
}
