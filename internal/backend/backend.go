// Package backend opens the compute backend a command runs on, and says why it was chosen.
//
// Two backends exist: "go" (pure Go, always there) and "xla" (a PJRT plugin; "xla:cpu" or "xla:cuda"). A build without
// a C compiler has no XLA. Nothing here ever downloads a plugin.
package backend

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend" // registers "go"
)

// Auto lets Open choose: XLA on CUDA, else XLA on the CPU, else Go.
const Auto = "auto"

// Choice is an opened backend with the reason for it.
type Choice struct {
	// Backend is no embedded field, lest a Choice be passed as a backend: GoMLX compares backends by identity.
	Backend compute.Backend
	Config  string // as GoMLX's GOMLX_BACKEND would name it: "go:ops_sequential", "xla:cpu", "xla:cuda,tf32=false,preallocate=false"
	Reason  string // a clause for people: "no PJRT plugin found"
}

// IsXLA reports whether programs run through a PJRT plugin.
func (c Choice) IsXLA() bool { return strings.HasPrefix(c.Config, "xla") }

// Open opens the backend called name: "", Auto, "go", "xla", "xla:cpu", "xla:cuda" or any GoMLX configuration of these.
//
// "go" is opened as "go:ops_sequential". With compute v0.1.4 independent large matrix products that start together wait
// for one another's workers and never end (16 products of 256 x 256 do); one operation at a time is also as fast where
// each uses all processors.
//
// On CUDA it turns TF32 off, whose ten-bit mantissa would leave three digits in a metric product, and preallocation
// off, so that a training process keeps its memory.
func Open(name string) (Choice, error) {
	config, reason := name, "asked for"
	if name == "" || name == Auto || name == "xla" {
		config, reason = choose(name)
	}
	if config == "" {
		return Choice{}, fmt.Errorf("backend: %q was asked for but %s; %s", name, reason, remedy)
	}
	if plugin, isXLA := strings.CutPrefix(config, "xla:"); isXLA {
		kind, _, _ := strings.Cut(plugin, ",")
		if _, found := Plugins()[kind]; !found {
			return Choice{}, fmt.Errorf("backend: %q was asked for but %s; %s", name, missing(kind), remedy)
		}
		if kind == "cuda" && !strings.Contains(plugin, ",") {
			config += ",tf32=false,preallocate=false"
		}
	} else if config == "go" {
		config = "go:ops_sequential"
	} else if !strings.HasPrefix(config, "go:") {
		return Choice{}, fmt.Errorf("backend: unknown backend %q; use auto, go, xla, xla:cpu or xla:cuda", name)
	}
	opened, err := compute.NewWithConfig(config)
	if err != nil {
		return Choice{}, fmt.Errorf("backend: cannot open %q: %w", config, err)
	}
	return Choice{Backend: opened, Config: config, Reason: reason}, nil
}

const remedy = "run scripts/install-xla and set PJRT_PLUGIN_LIBRARY_PATH to the folder it prints, or use --backend=go"

func choose(name string) (config, reason string) {
	plugins := Plugins()
	for _, kind := range []string{"cuda", "cpu"} {
		if path, found := plugins[kind]; found {
			return "xla:" + kind, "PJRT plugin " + path + " found"
		}
	}
	if name == "xla" {
		return "", missing("")
	}
	return "go", missing("")
}

func missing(kind string) string {
	if !xlaBuilt {
		return "this build has no XLA: it was built without a C compiler"
	}
	if kind == "" {
		return "no working PJRT plugin was found"
	}
	found := slices.Sorted(maps.Keys(Plugins()))
	if len(found) == 0 {
		return fmt.Sprintf("no working PJRT plugin %q was found", kind)
	}
	return fmt.Sprintf("no working PJRT plugin %q was found (found: %s)", kind, strings.Join(found, ", "))
}
