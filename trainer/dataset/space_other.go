//go:build !linux && !darwin

package dataset

// checkSpace leaves it to the disk to say that it is full.
func checkSpace(string, int64) error { return nil }
