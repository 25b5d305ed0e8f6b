//go:build cgo

package backendtest

import "github.com/gomlx/go-xla/pjrt"

// LiveBuffers counts the buffers of XLA that nobody has freed.
func LiveBuffers() int64 { return pjrt.BuffersAlive() }
