// Package writers keeps the records of a run on disk as Parquet, and reads them back.
//
// A run is a directory (docs/format.md describes it column by column):
//
//	run.json                        what was run, with what: Info
//	run-attempt-2.json              the same for the process that resumed it
//	training/part-000000.parquet    one folder per table, one file per Write
//	errors/part-000000.parquet
//	influence/part-000000.parquet
//	solves/part-000000.parquet
//	coherence/part-000000.parquet
//
// One Write makes one part: a file of the same number in each table that has rows. A file appears under its final name
// only when it is complete and on the disk. The files of a part appear in the order above, the last of them when all
// others are safe, so a part whose last file is visible is whole; Read returns whole parts only, and resuming a run
// finishes a part that a crash left between its first and its last file. Nothing visible is ever changed.
//
// JSONLines and TensorBoard are sinks to write to beside a run, or alone.
//
// Find lists the runs below a directory, Check finds all that is wrong with one, Compact copies it with one file for each table.
package writers
