package audit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// Every derivative that this module registers with GoMLX is that of finite differences in every input, as the model is built in
// training and in evaluation.
func TestRegisteredDerivativesAreThoseOfFiniteDifferences(t *testing.T) {
	type inputs = map[string][]float64
	models := map[string]struct {
		xlaOnly bool   // GoMLX's Go backend does not have the operation
		inputs  inputs // of [3, 2, 4] or [4]
		fn      func(scope *model.Scope, in map[string]*graph.Node) *graph.Node
	}{
		"Reverse": {false, inputs{"x": nil}, func(_ *model.Scope, in map[string]*graph.Node) *graph.Node {
			return graph.Mul(graph.Reverse(graph.Square(in["x"]), 0, 2), graph.Sin(in["x"]))
		}},
		// In evaluation norm.BatchNorm is this operation, in training another one of GoMLX's own.
		"BatchNormForInference": {true, inputs{"x": nil}, func(scope *model.Scope, in map[string]*graph.Node) *graph.Node {
			return norm.BatchNorm(scope.In("norm"), graph.Sin(in["x"]), -1).Done()
		}},
		"BatchNormForInference of all its inputs": {true, inputs{"x": nil, "scale": {1, -2, 0.5, 3}, "offset": {1, 2, 3, 4}, "mean": {0.3, -0.2, 1, 0}, "variance": {1, 0.2, 3, 2}},
			func(_ *model.Scope, in map[string]*graph.Node) *graph.Node {
				return graph.InternalBatchNormForInference(in["x"], in["scale"], in["offset"], in["mean"], in["variance"], 1e-3, -1)
			}},
	}
	for _, operation := range registered(t) {
		require.Contains(t, models, operation, "a derivative is registered for it")
	}
	random := rand.New(rand.NewPCG(3, 3))
	draw := func(n int) []float64 {
		values := make([]float64, n)
		for i := range values {
			values[i] = random.NormFloat64()
		}
		return values
	}
	const size = 3 * 2 * 4
	weights := draw(size)
	for name, m := range models {
		t.Run(name, func(t *testing.T) {
			each := backendtest.Each
			if m.xlaOnly {
				each = func(t *testing.T, f func(*testing.T, compute.Backend)) { f(t, backendtest.XLA(t)) }
			}
			each(t, func(t *testing.T, b compute.Backend) {
				for _, training := range []bool{false, true} {
					names := slices.Sorted(maps.Keys(m.inputs))
					store := model.NewStore()
					exec := model.MustNewExec(b, store, func(scope *model.Scope, args []*graph.Node) []*graph.Node {
						g := args[0].Graph()
						store.SetTraining(g, training)
						in := map[string]*graph.Node{}
						for i, name := range names {
							in[name] = args[i]
						}
						loss := graph.ReduceAllSum(graph.Mul(m.fn(scope, in), graph.Reshape(graph.Const(g, weights), 3, 2, 4)))
						return append([]*graph.Node{loss}, graph.Gradient(loss, args...)...)
					})
					values := map[string][]float64{}
					for _, name := range names {
						if values[name] = m.inputs[name]; values[name] == nil {
							values[name] = draw(size)
						}
					}
					evaluate := func() (loss float64, gradients [][]float64) {
						var args []any
						for _, name := range names {
							dimensions := []int{len(values[name])}
							if len(values[name]) == size {
								dimensions = []int{3, 2, 4}
							}
							args = append(args, tensors.FromFlatDataAndDimensions(slices.Clone(values[name]), dimensions...))
						}
						outputs := exec.MustCall(args...)
						for _, gradient := range outputs[1:] {
							gradients = append(gradients, tensors.MustCopyFlatData[float64](gradient))
						}
						return tensors.ToScalar[float64](outputs[0]), gradients
					}
					_, gradients := evaluate()
					const h = 1e-5
					for i, name := range names {
						for at := range values[name] {
							here := values[name][at]
							values[name][at] = here + h
							above, _ := evaluate()
							values[name][at] = here - h
							below, _ := evaluate()
							values[name][at] = here
							require.InDelta(t, (above-below)/(2*h), gradients[i][at], 1e-7*(1+math.Abs(gradients[i][at])), "%s[%d], training %t", name, at, training)
						}
					}
				}
			})
		})
	}
}

// registered are the operations for which a derivative is registered somewhere in this module, by GoMLX's names.
func registered(t *testing.T) (operations []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			assignment, ok := n.(*ast.AssignStmt)
			if !ok {
				return true
			}
			if index, ok := assignment.Lhs[0].(*ast.IndexExpr); ok {
				table, isTable := index.X.(*ast.SelectorExpr)
				if key, ok := index.Index.(*ast.SelectorExpr); ok && isTable && table.Sel.Name == "VJPRegistration" {
					operations = append(operations, strings.TrimPrefix(key.Sel.Name, "NodeType"))
				}
			}
			return true
		})
		return nil
	}))
	require.NotEmpty(t, operations)
	return operations
}
