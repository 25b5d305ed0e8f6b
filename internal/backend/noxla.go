//go:build !cgo

package backend

const xlaBuilt = false

// Plugins returns no plugin: without cgo none can be loaded.
func Plugins() map[string]string { return nil }
