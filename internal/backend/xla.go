//go:build cgo

package backend

import (
	"github.com/gomlx/go-xla/compute/xla"
	"github.com/gomlx/go-xla/pjrt"
)

const xlaBuilt = true

func init() { xla.EnableAutoInstall(false) }

// Plugins returns the PJRT plugins found in PJRT_PLUGIN_LIBRARY_PATH and the system's folders: kind to path.
func Plugins() map[string]string { return pjrt.AvailablePlugins() }
