package writers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
)

// Two trainings, of which one is resumed from before its last audit and the other ends earlier: of the long tables the latest audit of each is
// there, of the short ones every row, as Read has them; in a run of many parts and in a compact one.
func TestReadLatest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	run := openRun(t, dir)
	for _, step := range []int64{1, 2, 3} {
		require.NoError(t, run.Write(soundAudit(step)))
	}
	require.NoError(t, run.Write(ofModel("vit", soundAudit(2))))
	require.NoError(t, run.Close())
	run = resumeRun(t, dir)
	require.NoError(t, run.Write(soundAudit(2))) // 3 is superseded
	require.NoError(t, run.Write(&audit.Records{Training: soundAudit(3).Training}))
	require.NoError(t, run.Close())

	all := readRecords(t, dir)
	want := all
	latest := func(m audit.Moment) bool { return m.Step == 2 && (m.Model == "vit" || m.Attempt == 2) }
	want.Rollouts = kept(all.Rollouts, func(row audit.RolloutRow) bool { return latest(row.Moment) })
	want.Errors = kept(all.Errors, func(row audit.ErrorRow) bool { return latest(row.Moment) })
	want.LocalErrors = kept(all.LocalErrors, func(row audit.LocalErrorRow) bool { return latest(row.Moment) })
	want.Influence = kept(all.Influence, func(row audit.InfluenceRow) bool { return latest(row.Moment) })
	want.Layers = kept(all.Layers, func(row audit.LayerRow) bool { return latest(row.Moment) })
	want.Spectrum = kept(all.Spectrum, func(row audit.SpectrumRow) bool { return latest(row.Moment) })
	want.Pictures = kept(all.Pictures, func(row audit.PictureRow) bool { return latest(row.Moment) })
	require.Len(t, want.Influence, 4)
	require.Len(t, want.Coherence, 6, "of unet at 1 and 2, and of vit")

	contents, err := ReadLatest(dir)
	require.NoError(t, err)
	requireSame(t, want, contents.Records)
	compacted := filepath.Join(t.TempDir(), "compact")
	require.NoError(t, Compact(dir, compacted))
	contents, err = ReadLatest(compacted)
	require.NoError(t, err)
	requireSame(t, want, contents.Records)

	// A long table of an earlier audit is not opened, one of the latest is.
	require.NoError(t, os.WriteFile(directory{path: dir}.visible("influence", 0), []byte("damaged"), 0o666))
	_, err = ReadLatest(dir)
	require.NoError(t, err)
	damaged := directory{path: dir}.visible("influence", 4)
	require.NoError(t, os.WriteFile(damaged, []byte("damaged"), 0o666))
	_, err = ReadLatest(dir)
	require.ErrorContains(t, err, damaged)
	_, err = ReadLatest(t.TempDir())
	require.ErrorContains(t, err, "holds no run")
}

func kept[Row any](rows []Row, keep func(Row) bool) (all []Row) {
	for _, row := range rows {
		if keep(row) {
			all = append(all, row)
		}
	}
	return all
}
