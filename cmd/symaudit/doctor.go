package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/internal/sums"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/solver/network"
)

// checkups are the models whose gradients doctor can test.
var checkups = map[string]models.Fn{
	"tiny-fno":     models.TinyFNO().Fn(),
	"tiny-unet":    models.TinyUNet().Fn(),
	"tiny-vit":     models.TinyViT().Fn(),
	"strided-conv": stridedConvolution,
}

// defaultCheckups must be sound; strided-conv is there to show what a fault looks like.
var defaultCheckups = []string{"tiny-unet", "tiny-vit", "tiny-fno"}

// stridedConvolution is the commonest way to halve a grid, a 2x2 convolution with stride 2, and back.
func stridedConvolution(scope *model.Scope, x *graph.Node) *graph.Node {
	channels := x.Shape().Dimensions[3]
	y := layers.Convolution(scope.In("stem"), x).Channels(channels).KernelSize(3).PadSame().Done()
	y = layers.Convolution(scope.In("down"), y).Channels(channels).KernelSize(2).Strides(2).NoPadding().Done()
	batch, height, width := y.Shape().Dimensions[0], y.Shape().Dimensions[1], y.Shape().Dimensions[2]
	y = graph.BroadcastToDims(graph.Reshape(y, batch, height, 1, width, 1, channels), batch, height, 2, width, 2, channels)
	return graph.Reshape(y, batch, 2*height, 2*width, channels)
}

func newDoctor(s *settings) *cobra.Command {
	var names []string
	known := slices.Sorted(maps.Keys(checkups))
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "say what symaudit runs on, and test the gradients of models",
		Long: `doctor says which backend is used and why, and which plugins and versions there are. It tests whether the backend computes
derivatives of normalisations rightly, which not every XLA plugin does (docs/gomlx.md), and whether the gradient that
GoMLX computes is the adjoint of the derivative, <u, J v> = <J^T u, v>, for the models that come with symaudit. If it is
not, it names the layer: training would run on a wrong gradient without any error. --model strided-conv shows one. Test
a model of your own with network.Network.CheckGradient.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range names {
				if checkups[name] == nil {
					return usageError{fmt.Errorf("--model %q is unknown; use some of %s", name, strings.Join(known, ", "))}
				}
			}
			out := cmd.OutOrStdout()
			choice, _, err := s.open(cmd)
			if err != nil {
				return err
			}
			plugins := backend.Plugins()
			for _, kind := range slices.Sorted(maps.Keys(plugins)) {
				fmt.Fprintf(out, "plugin: %s in %s\n", kind, plugins[kind])
			}
			if len(plugins) == 0 {
				fmt.Fprintln(out, "plugin: none (scripts/install-xla installs the XLA CPU plugin)")
			}
			fmt.Fprintf(out, "system: %s/%s, %d processors\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
			printVersions(cmd)
			if err := sums.Check(choice.Backend); err != nil {
				return err
			}
			fmt.Fprintln(out, "derivatives of normalisations: right")
			sound := true
			for _, name := range names {
				report, err := checkGradient(choice, checkups[name])
				if err != nil {
					return fmt.Errorf("gradient of %s: %w", name, err)
				}
				if report.OK() {
					fmt.Fprintf(out, "gradient of %s: right (adjoint error %.1e)\n", name, report.Error)
					continue
				}
				sound = false
				fmt.Fprintf(out, "gradient of %s: WRONG (adjoint error %.1e)\n", name, report.Error)
				if report.Fault != nil {
					fmt.Fprintf(out, "  %s\n", report.Fault)
				}
			}
			if !sound {
				return errors.New("a gradient is wrong: do not train this model, it would learn from something else than its loss")
			}
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&names, "model", defaultCheckups, "`names` of models to test: "+strings.Join(known, ", "))
	return cmd
}

// versions are those of the program and of what computes its results.
func versions() []string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return []string{"symaudit of an unknown version"}
	}
	all := []string{"symaudit " + build.Main.Version, build.GoVersion}
	for _, module := range build.Deps {
		switch module.Path {
		case "github.com/gomlx/gomlx", "github.com/gomlx/go-xla", "github.com/gomlx/compute":
			all = append(all, module.Path[len("github.com/gomlx/"):]+" "+module.Version)
		}
	}
	return all
}

func printVersions(cmd *cobra.Command) {
	fmt.Fprintf(cmd.OutOrStdout(), "versions: %s\n", strings.Join(versions(), ", "))
	for _, name := range []string{"GOMLX_BACKEND", "PJRT_PLUGIN_LIBRARY_PATH", "XLA_FLAGS", "GOMLX_FUSION"} {
		if value := os.Getenv(name); value != "" {
			fmt.Fprintf(cmd.OutOrStdout(), "environment: %s=%s\n", name, value)
		}
	}
}

// checkGradient tests a model on a smooth state. Its weights are moved from where they begin: behind a last layer of zeros nothing shows.
func checkGradient(choice backend.Choice, modelFn models.Fn) (network.GradientReport, error) {
	const size, channels = 16, 4
	values := make([]float64, size*size*channels)
	for i := range values {
		values[i] = 1 + 0.3*math.Sin(float64(7*i))
	}
	x := tensors.FromFlatDataAndDimensions(values, 1, size, size, channels)
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(1))
	exec, err := model.NewExec(choice.Backend, store, modelFn)
	if err != nil {
		return network.GradientReport{}, err
	}
	if _, err := exec.Exec(x); err != nil { // makes the weights
		return network.GradientReport{}, err
	}
	random := rand.New(rand.NewPCG(1, 1))
	for variable := range store.IterVariables() {
		if !variable.Trainable {
			continue
		}
		value, err := variable.Value()
		if err != nil {
			return network.GradientReport{}, err
		}
		moved := tensors.MustCopyFlatData[float64](value)
		for i := range moved {
			moved[i] += 0.1 * random.NormFloat64()
		}
		if err := variable.SetValue(tensors.FromFlatDataAndDimensions(moved, value.Shape().Dimensions...)); err != nil {
			return network.GradientReport{}, err
		}
	}
	net, err := network.New(choice.Backend, modelFn, audit.Loss, dtypes.Float64)
	if err != nil {
		return network.GradientReport{}, err
	}
	defer net.Close()
	if err := net.Load(store); err != nil {
		return network.GradientReport{}, err
	}
	return net.CheckGradient(x, false)
}
