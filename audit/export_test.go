package audit_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/core/tensors/numpy"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/internal/quantile"
	"github.com/symaudit/symaudit/orbits"
)

// exported is an export as a reader of its files sees it.
type exported struct {
	t     *testing.T
	dir   string
	index struct {
		Metric      string
		ArraysDType string `json:"arrays_dtype"`
		Parameters  []struct {
			Name   string
			Shape  []int
			Offset int
		}
		Groups []struct {
			Name, Folder string
			Elements     []string
			BatchSize    int `json:"batch_size"`
			Metrics      []int
			Directions   []struct {
				Name string
				AtX  string `json:"at_x"`
				AtGX string `json:"at_gx"`
			}
			Samples []struct{ Class string }
		}
		Metrics []struct {
			Folder          string
			Weight          float64
			LambdaMax       float64 `json:"lambda_max"`
			Lambdas         []float64
			RelativeLambdas []float64 `json:"relative_lambdas"`
		}
		Arrays []struct {
			File, DType, Unit, Meaning string
			Shape                      []int
			Axes                       []string
		}
	}
}

func readExport(t *testing.T, dir string) *exported {
	x := &exported{t: t, dir: dir}
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &x.index))
	return x
}

func (x *exported) array(file string) []float64 {
	array, err := numpy.FromNpyFile(filepath.Join(x.dir, file))
	require.NoError(x.t, err)
	if array.DType() == dtypes.Float32 {
		var all []float64
		for _, v := range tensors.MustCopyFlatData[float32](array) {
			all = append(all, float64(v))
		}
		return all
	}
	return tensors.MustCopyFlatData[float64](array)
}

// chi solves with eta + lambda from the arrays of a metric, row by row of the gradients.
func (x *exported) chi(metric int, l int, gradients *mat.Dense) *mat.Dense {
	m := x.index.Metrics[metric]
	_, dim := gradients.Dims()
	eta := mat.NewSymDense(dim, nil)
	factor := func(name string) {
		values := x.array(m.Folder + "/" + name + ".npy")
		eta.SymOuterK(m.Weight, mat.NewDense(len(values)/dim, dim, values).T())
	}
	switch x.index.Metric {
	case "ntk":
		factor("jacobian")
	case "fisher":
		factor("gradients")
	case "ggn":
		values := mat.NewDense(dim, dim, x.array(m.Folder+"/matrix.npy"))
		for i := range dim {
			for j := i; j < dim; j++ {
				eta.SetSym(i, j, (values.At(i, j)+values.At(j, i))/2)
			}
		}
	case "optimizer":
		response := x.array(m.Folder + "/response.npy")
		solutions := mat.DenseCopyOf(gradients)
		rows, _ := solutions.Dims()
		for i := range rows {
			floats.Mul(solutions.RawRowView(i), response)
		}
		return solutions
	}
	solutions, err := oracle.Cholesky(eta, m.Lambdas[l], gradients)
	require.NoError(x.t, err)
	return solutions
}

// check recomputes every influence, cosine and coherence, and says how many of them.
func (x *exported) check() (checked int) {
	t := x.t
	for _, g := range x.index.Groups {
		elements, samples, n := len(g.Elements), len(g.Samples), g.BatchSize
		dim := len(x.array("weights.npy"))
		for _, d := range g.Directions {
			atX, atGX := x.array(g.Folder+"/gradients_"+d.AtX+".npy"), x.array(g.Folder+"/gradients_"+d.AtGX+".npy")
			draws := len(atX) / elements / samples / dim
			influence, cosine := x.array(g.Folder+"/influence_"+d.Name+".npy"), x.array(g.Folder+"/cosine_"+d.Name+".npy")
			of := func(batch, l, e, row, col int) int { // its place in either
				return 3 * ((((batch*len(x.index.Metrics[0].Lambdas)+l)*elements+e)*n+row)*n + col)
			}
			contains := func(bounds []float64, want, norm float64) {
				const numerical = 1e-10 // of the oracle
				require.LessOrEqual(t, bounds[1], want+numerical*norm, "%s, %s", g.Name, d.Name)
				require.GreaterOrEqual(t, bounds[2], want-numerical*norm, "%s, %s", g.Name, d.Name)
				checked++
			}
			for l := range x.index.Metrics[0].Lambdas {
				cosines := make([][]float64, elements+1)
				for batch, metric := range g.Metrics {
					at := func(all []float64, e, k, sample int) []float64 {
						from := ((e*draws+k)*samples + batch*n + sample) * dim
						return all[from : from+dim]
					}
					// By draw, the gradients at x and then those at g.x, as rows.
					var forms []*mat.Dense
					for k := range draws {
						rows := mat.NewDense(n+elements*n, dim, nil)
						for sample := range n {
							rows.SetRow(sample, at(atX, 0, k, sample))
							for e := range elements {
								rows.SetRow(n+e*n+sample, at(atGX, e, k, sample))
							}
						}
						var form mat.Dense
						form.Mul(rows, x.chi(metric, l, rows).T())
						forms = append(forms, &form)
					}
					sum := func(i, j int) (sum float64) {
						for _, form := range forms {
							sum += form.At(i, j)
						}
						return sum
					}
					for e := range elements {
						for row := range n {
							for col := range n {
								j, place := n+e*n+col, of(batch, l, e, row, col)
								norm := math.Sqrt(sum(row, row) * sum(j, j))
								contains(influence[place:place+3], sum(row, j)/float64(draws), norm)
								contains(cosine[place:place+3], sum(row, j)/norm, 1)
								if row == col {
									cosines[e] = append(cosines[e], sum(row, j)/norm)
									if e > 0 {
										cosines[elements] = append(cosines[elements], sum(row, j)/norm)
									}
								}
							}
						}
					}
				}
				coherence := x.array(g.Folder + "/coherence_" + d.Name + ".npy")
				for e, found := range cosines {
					place := 3 * (l*len(cosines) + e)
					slices.Sort(found)
					contains(coherence[place:place+3], quantile.Of(found, 0.5), 1)
				}
			}
		}
	}
	return checked
}

func TestExportedArraysGiveTheAuditsValues(t *testing.T) {
	fn := smallViT.Fn()
	adam := optimizer.Adam().LearningRate(1e-2).Done()
	for name, configure := range map[string]func(*audit.Builder){
		"float32":          func(b *audit.Builder) {},
		"float64":          func(b *audit.Builder) { b.WithDType(dtypes.Float64).WithTolerance(1e-6) },
		"several dampings": func(b *audit.Builder) { b.WithRelativeLambda(1, 1e-3) },
		"plain sum":        func(b *audit.Builder) { b.WithMetricScale(audit.MetricSum) },
		"several directions": func(b *audit.Builder) {
			b.WithDirections(audit.LossDirection(), audit.KernelDirection(3), audit.TotalDirection("energy"))
		},
		"fisher":    func(b *audit.Builder) { b.WithMetric(audit.MetricFisher) },
		"ggn":       func(b *audit.Builder) { b.WithMetric(audit.MetricGGN) },
		"identity":  func(b *audit.Builder) { b.WithMetric(audit.MetricIdentity) },
		"optimizer": func(b *audit.Builder) { b.WithOptimizer(adam) },
	} {
		t.Run(name, func(t *testing.T) {
			p := probes(4, 2)
			builder := audit.New(trained(t, backendtest.Go(t), fn), fn, nil).WithField(orbits.EulerField()).WithRelativeLambda(1e-2).
				WithGroup(orbits.D4(), p).WithGroup(orbits.Translations(4), probes(2, 0))
			configure(builder)
			auditor, err := builder.Done()
			require.NoError(t, err)
			defer auditor.Close()
			dir := filepath.Join(t.TempDir(), "export")
			records, err := auditor.Export(context.Background(), audit.Moment{Model: name, Step: 5}, dir, audit.DefaultJacobianLimit)
			require.NoError(t, err)
			x := readExport(t, dir)
			require.Equal(t, "float64", x.index.ArraysDType)
			bounds := 0
			for _, array := range x.index.Arrays {
				if slices.Contains(array.Axes, "bound") {
					bounds += len(x.array(array.File))
				}
			}
			require.Equal(t, bounds/3, x.check(), "every value is checked")
			require.Len(t, x.index.Metrics, 3)
			require.InDelta(t, records.Solves[0].Lambda, x.index.Metrics[0].Lambdas[0], 0)

			// What was written is what the index says of it, and what it was made of.
			for _, array := range x.index.Arrays {
				read, err := numpy.FromNpyFile(filepath.Join(dir, array.File))
				require.NoError(t, err)
				require.Equal(t, array.Shape, read.Shape().Dimensions, array.File)
				require.Len(t, array.Axes, len(array.Shape), array.File)
				require.NotEmpty(t, array.Meaning)
				require.NotEmpty(t, array.Unit)
			}
			inputs := x.array("d4/inputs.npy")
			for i, v := range flow(1, 4) {
				require.Equal(t, float64(v), inputs[i])
			}
			for i, row := range records.Errors[:8*4] {
				require.Equal(t, row.TargetError, x.array("d4/target_errors.npy")[i])
			}
			entries, err := os.ReadDir(filepath.Dir(dir))
			require.NoError(t, err)
			require.Len(t, entries, 1, "nothing else is left")
		})
	}
}

// Batches whose metric is over the same further states share it, and these are written too.
func TestExportOfASharedMetric(t *testing.T) {
	fn := smallViT.Fn()
	p := probes(4, 2)
	p.Metrics = []*audit.MetricStates{{Inputs: batch(flow(3, 3)), Targets: batch(flow(4, 3))}}
	auditor, err := audit.New(trained(t, backendtest.Go(t), fn), fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).Done()
	require.NoError(t, err)
	defer auditor.Close()
	dir := filepath.Join(t.TempDir(), "export")
	_, err = auditor.Export(context.Background(), audit.Moment{}, dir, audit.DefaultJacobianLimit)
	require.NoError(t, err)
	x := readExport(t, dir)
	require.Len(t, x.index.Metrics, 1)
	require.Equal(t, []int{0, 0}, x.index.Groups[0].Metrics)
	require.Len(t, x.array("metric_0/inputs.npy"), 3*grid*grid*4)
	require.Positive(t, x.check())
}

// A label that does not move, of a type of its own, and a further input that moves.
func TestExportOfFurtherInputsAndLabels(t *testing.T) {
	masked := func(_ *model.Scope, inputs []*graph.Node) []*graph.Node {
		return []*graph.Node{graph.Mul(inputs[0], graph.ExpandAxes(inputs[1], -1))}
	}
	counted := func(labels, predictions []*graph.Node) *graph.Node {
		return graph.Mul(audit.Loss(labels[:1], predictions), graph.ConvertDType(graph.ReduceAllSum(labels[1]), labels[0].DType()))
	}
	mask := make([]float32, grid*grid)
	for i := range mask {
		mask[i] = float32(i)
	}
	p := probes(1, 0)
	p.Further = []*tensors.Tensor{tensors.FromFlatDataAndDimensions(mask, 1, grid, grid)}
	p.Labels = []*tensors.Tensor{tensors.FromFlatDataAndDimensions([]int32{7}, 1, 1)}
	weighted := func(scope *model.Scope, inputs []*graph.Node) []*graph.Node {
		outputs := masked(scope, inputs)
		weight := scope.VariableWithValue("weight", float32(1)).NodeValue(inputs[0].Graph())
		return []*graph.Node{graph.Mul(outputs[0], graph.ConvertDType(weight, inputs[0].DType()))}
	}
	store := model.NewStore()
	trainer := train.NewTrainer(backendtest.Go(t), store, weighted, counted, optimizer.Adam().Done(), nil, nil)
	_, err := trainer.TrainStep(train.Batch{
		Inputs: []*tensors.Tensor{batch(flow(1, 1)), tensors.FromFlatDataAndDimensions(mask, 1, grid, grid)},
		Labels: []*tensors.Tensor{batch(flow(2, 1)), tensors.FromFlatDataAndDimensions([]int32{7}, 1, 1)},
	})
	require.NoError(t, err)
	auditor, err := audit.New(trainer, weighted, counted).WithField(orbits.EulerField()).WithGroup(orbits.C4(), p).Done()
	require.NoError(t, err)
	defer auditor.Close()
	dir := filepath.Join(t.TempDir(), "export")
	_, err = auditor.Export(context.Background(), audit.Moment{}, dir, audit.DefaultJacobianLimit)
	require.NoError(t, err)
	x := readExport(t, dir)
	further := x.array("c4/further_0.npy")
	require.Len(t, further, 4*grid*grid)
	require.Equal(t, 1.0, further[1])
	require.Equal(t, float64(grid*grid-2), further[2*grid*grid+1], "by a half turn")
	labels, err := numpy.FromNpyFile(filepath.Join(dir, "c4", "labels_0.npy"))
	require.NoError(t, err)
	require.Equal(t, []int32{7, 7, 7, 7}, tensors.MustCopyFlatData[int32](labels))
	require.Positive(t, x.check())
}

func TestExportFaults(t *testing.T) {
	fn := smallViT.Fn()
	trainer := trained(t, backendtest.Go(t), fn)
	export := func(ctx context.Context, dir string, limit int64, configure func(*audit.Builder)) error {
		builder := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(4, 2))
		configure(builder)
		auditor, err := builder.Done()
		require.NoError(t, err)
		defer auditor.Close()
		records, err := auditor.Export(ctx, audit.Moment{}, dir, limit)
		require.Equal(t, err == nil, records != nil)
		return err
	}
	plain := func(*audit.Builder) {}
	parent := t.TempDir()
	dir := filepath.Join(parent, "export")

	require.EqualError(t, export(context.Background(), parent, 1, plain), "audit: "+parent+" exists already; choose another directory, or remove it")
	err := export(context.Background(), dir, 1<<20, plain)
	var setting *audit.SettingError
	require.ErrorAs(t, err, &setting)
	require.Regexp(t, `^audit: Export's jacobianLimit is 1 MiB, and 512 outputs by \d+ parameters of group d4, batch 0 take [0-9.]+ MiB; raise it, use smaller batches of probes, or give 0, which leaves Jacobians out and all else in$`, err.Error())
	require.ErrorContains(t, export(context.Background(), dir, 1<<10, func(b *audit.Builder) { b.WithMetric(audit.MetricGGN) }), " parameters by ")
	require.ErrorContains(t, export(context.Background(), dir, -1, plain), "is -1; it must be positive, or 0 to leave Jacobians out")
	require.ErrorContains(t, export(context.Background(), dir, 1<<30, func(b *audit.Builder) { b.WithForwardOnly() }), "WithForwardOnly")
	stopped, stop := context.WithCancel(context.Background())
	stop()
	require.ErrorIs(t, export(stopped, dir, 1<<30, plain), context.Canceled)
	late, stop := context.WithCancel(context.Background())
	parts := 0
	require.ErrorIs(t, export(late, dir, 1<<30, func(b *audit.Builder) {
		b.WithProgress(func(done, total int) {
			if parts = total; done == total-1 { // when all but one metric is written
				stop()
			}
		})
	}), context.Canceled)
	require.Equal(t, 1+2+1+2, parts, "of the audit errors and two solves, of the export the gradients and two metrics")
	entries, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Empty(t, entries, "whatever fails leaves nothing")

	require.NoError(t, export(context.Background(), dir, 0, plain))
	require.NoFileExists(t, filepath.Join(dir, "metric_0", "jacobian.npy"))
	require.FileExists(t, filepath.Join(dir, "d4", "gradients_loss.npy"))
}
