//go:build cgo

package backend

import (
	"github.com/gomlx/go-xla/compute/xla"
	"github.com/gomlx/go-xla/pjrt"
)

const xlaBuilt = true

func init() { xla.EnableAutoInstall(false) }

// Plugins returns the PJRT plugins found in PJRT_PLUGIN_LIBRARY_PATH and the system's folders: kind to path. Where one of
// them cannot be loaded, there is none, for go-xla v0.4.3 then ends its search with a nil pointer.
func Plugins() (found map[string]string) {
	defer func() {
		if recover() != nil {
			found = nil
		}
	}()
	return pjrt.AvailablePlugins()
}
