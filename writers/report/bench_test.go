package report

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/writers"
	"github.com/symaudit/symaudit/writers/report/internal/synthetic"
)

// BenchmarkThousandAudits writes a thousand audits of nine samples under D4 and fourteen shifts, 1.9 million rows of influence, reports them and reads them. The heap is that
// after the report, the writing included.
func BenchmarkThousandAudits(b *testing.B) {
	const audits = 1000
	for b.Loop() {
		dir := b.TempDir()
		if kept := os.Getenv("SYMAUDIT_BENCH_DIR"); kept != "" { // to try other readers on
			dir = filepath.Join(kept, "thousand-audits")
		}
		source := synthetic.Run{Groups: []string{"d4", "translations"}, HalfWidth: 0.02}
		run, err := writers.Parquet(dir).Done()
		require.NoError(b, err)
		rows := 0
		var writing time.Duration
		for epoch := 1; epoch <= audits; epoch++ {
			records := source.Audit("unet", epoch)
			begun := time.Now()
			require.NoError(b, run.Write(records))
			writing += time.Since(begun)
			rows += len(records.Influence)
		}
		require.NoError(b, run.Close())
		size := int64(0)
		require.NoError(b, filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
			if info, failed := entry.Info(); err == nil && failed == nil && !entry.IsDir() {
				size += info.Size()
			}
			return err
		}))
		runtime.GC()
		begun := time.Now()
		path, _, err := Write(dir)
		require.NoError(b, err)
		reporting := time.Since(begun)
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		begun = time.Now()
		contents, err := writers.Read(dir)
		require.NoError(b, err)
		reading := time.Since(begun)
		require.Len(b, contents.Records.Influence, rows)
		page, err := os.Stat(path)
		require.NoError(b, err)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(rows), "influence-rows")
		b.ReportMetric(writing.Seconds()/audits*1000, "write-ms/audit")
		b.ReportMetric(float64(rows)/writing.Seconds(), "influence-rows/s")
		b.ReportMetric(float64(size)/float64(rows), "bytes/influence-row")
		b.ReportMetric(reading.Seconds(), "read-s")
		b.ReportMetric(reporting.Seconds(), "report-s")
		b.ReportMetric(float64(memory.HeapSys)/(1<<20), "MiB-heap")
		b.ReportMetric(float64(page.Size())/(1<<20), "MiB-page")
	}
}
