//go:build !cgo

package backendtest

// LiveBuffers is 0: without cgo there is no XLA.
func LiveBuffers() int64 { return 0 }
