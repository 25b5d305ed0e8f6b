package bench

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/lapack/gonum"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// Claims of the solver on the problem set; a run that misses one fails.
const (
	trueError       = 0.01 // relative, of the influence matrix in the Frobenius norm: the mark both methods must reach
	fewerAtSmallest = 10   // times fewer products than cg-residual at the smallest lambda on the UNet
	mostToCertify   = 1.5  // products to half-width 0.02 over those to the mark
)

// problem is the metric of a trained model on a batch of twelve held-out transitions, as a dense matrix, and the gradients
// of their D4 orbit.
//
// The number of products that a method takes is the same in every orthogonal basis, so that methods are compared in one in which the metric is
// tridiagonal: a product takes as many operations as a vector has entries there, not their square.
type problem struct {
	name      string
	eta       *mat.SymDense
	operator  dense      // eta
	gradients *mat.Dense // element by element, twelve of each
	largest   float64    // eigenvalue

	tridiagonal tridiagonal // Q^T eta Q
	turned      *mat.Dense  // the gradients times Q
}

const probesOf = 12

// BenchmarkSolver compares the products that certified intervals take with those of conjugate gradients and shows what the
// span of the batch's gradients gets, for a trained UNet and ViT on 32x32, against Cholesky factorisations in float64.
func BenchmarkSolver(b *testing.B) {
	for _, name := range []string{"unet", "vit"} {
		b.Run(name, func(b *testing.B) {
			p := newProblem(b, name)
			b.ReportMetric(0, "ns/op") // of no meaning here
			b.ReportMetric(float64(p.eta.SymmetricDim()), "parameters")
			var lambdas []float64
			for exponent := -8; exponent <= -2; exponent++ {
				lambdas = append(lambdas, p.largest*math.Pow(10, float64(exponent)))
			}
			for _, lambda := range lambdas {
				p.compare(b, lambda, lambda == lambdas[0] && name == "unet")
			}
		})
	}
}

func newProblem(b *testing.B, name string) *problem {
	const resolution, trajectories, trainingSteps = 32, 8, 300
	on := backends(b)["xla:cpu"]
	if on == nil {
		on = backends(b)["go"]
	}
	build := map[string]func(models.Normalization) models.Fn{"unet": unet(models.TinyUNet()), "vit": vit(models.TinyViT())}[name]
	before, after := flow(b, on, resolution, trajectories)
	size := resolution * resolution * 4
	var x, y, heldOutX, heldOutY []float32 // half of the trajectories are trained on; of the others the first steps are probes
	steps := len(before) / size / 3 / trajectories
	for at := 0; at < len(before)/size; at++ {
		from := at * size
		switch trajectory, step := at/steps%trajectories, at%steps; {
		case trajectory < trajectories/2:
			x, y = append(x, before[from:from+size]...), append(y, after[from:from+size]...)
		case step == 0:
			heldOutX, heldOutY = append(heldOutX, before[from:from+size]...), append(heldOutY, after[from:from+size]...)
		}
	}
	trainer, fn := trained(b, on, build, x, y, resolution, trainingSteps)
	net, err := network.New(on, fn, audit.Loss, dtypes.Float64)
	must(b, err)
	defer net.Close()
	must(b, net.Load(trainer.Store()))
	elements, err := orbits.D4().Elements(resolution, resolution)
	must(b, err)
	p := &problem{name: name, gradients: mat.NewDense(len(elements)*probesOf, net.Dim(), nil)}
	for e, element := range elements {
		act := graph.MustNewExec(on, func(x *graph.Node) *graph.Node { return element.Apply(orbits.EulerField(), x) })
		for i := range probesOf {
			move := func(values []float32) *tensors.Tensor {
				double, err := network.ConvertDType(states(values[i*size:(i+1)*size], resolution), dtypes.Float64)
				must(b, err)
				return act.MustCall(double)[0]
			}
			_, err := net.Gradient(p.gradients.RawRowView(e*probesOf+i), move(heldOutX), move(heldOutY))
			must(b, err)
		}
	}
	batch, err := network.ConvertDType(states(heldOutX, resolution), dtypes.Float64)
	must(b, err)
	p.eta, _, err = oracle.Dense(net.Metric(batch, 1/float64(batch.Size())))
	must(b, err)
	p.operator = dense{mat.DenseCopyOf(p.eta)}
	p.largest, _, err = solver.LargestEigenvalue(p.operator, 60, 1)
	must(b, err)
	p.turn()
	return p
}

// turn finds the basis by Householder reflections.
func (p *problem) turn() {
	var lapack gonum.Implementation
	q := mat.DenseCopyOf(p.eta).RawMatrix()
	n := q.Rows
	t := tridiagonal{make([]float64, n), make([]float64, n-1)}
	tau, work := make([]float64, n-1), make([]float64, 64*n)
	lapack.Dsytrd(blas.Upper, n, q.Data, q.Stride, t.diagonal, t.beside, tau, work, len(work))
	lapack.Dorgtr(blas.Upper, n, q.Data, q.Stride, tau, work, len(work))
	p.tridiagonal, p.turned = t, mat.NewDense(p.gradients.RawMatrix().Rows, n, nil)
	p.turned.Mul(p.gradients, mat.NewDense(n, n, q.Data))
}

// tridiagonal is a symmetric matrix with entries on the diagonal and beside it, as an operator.
type tridiagonal struct{ diagonal, beside []float64 }

func (t tridiagonal) Dim() int { return len(t.diagonal) }
func (t tridiagonal) Apply(dst, v *mat.Dense) error {
	rows, n := v.Dims()
	for r := range rows {
		to, from := dst.RawRowView(r), v.RawRowView(r)
		for i := range n {
			to[i] = t.diagonal[i] * from[i]
		}
		for i, beside := range t.beside {
			to[i] += beside * from[i+1]
			to[i+1] += beside * from[i]
		}
	}
	return nil
}

// dense is a symmetric matrix, in full storage for the speed of its product, as an operator.
type dense struct{ matrix *mat.Dense }

func (d dense) Dim() int { return d.matrix.RawMatrix().Rows }
func (d dense) Apply(dst, v *mat.Dense) error {
	dst.Mul(v, d.matrix)
	return nil
}

// compare counts products at one lambda: for x and one of its transforms, which twelve pairs of twelve states make a block
// of 24.
func (p *problem) compare(b *testing.B, lambda float64, smallest bool) {
	const element = 1 // r, a quarter turn
	pairs := func(gradients *mat.Dense) *mat.Dense {
		_, n := gradients.Dims()
		block := mat.NewDense(2*probesOf, n, nil)
		block.Slice(0, probesOf, 0, n).(*mat.Dense).Copy(gradients.Slice(0, probesOf, 0, n))
		block.Slice(probesOf, 2*probesOf, 0, n).(*mat.Dense).Copy(gradients.Slice(element*probesOf, (element+1)*probesOf, 0, n))
		return block
	}
	exact := p.exact(b, lambda, pairs(p.gradients))
	op, block := p.tridiagonal, pairs(p.turned)

	toMark := int64(0)
	forms, err := solver.BilinearForms(context.Background(), op, block, solver.FormOptions{
		Lambdas: []float64{lambda}, Rows: probesOf,
		Progress: func(f *solver.Forms) {
			if toMark == 0 && influenceError(exact, func(i, j int) float64 { return f.Form(0, i, j).Value }) <= trueError {
				toMark = f.Products + f.Setup
			}
		},
	})
	must(b, err)
	contained, entries, worst := 0, 0, 0.0
	for i := range probesOf {
		for j := range 2 * probesOf {
			form, want := forms.Form(0, i, j), exact.At(i, j)
			cosine, _ := forms.Cosine(0, i, j)
			wantCosine := want / math.Sqrt(exact.At(i, i)*exact.At(j, j))
			entries++
			if form.Low <= want && want <= form.High && cosine.Low <= wantCosine+1e-12 && wantCosine-1e-12 <= cosine.High {
				contained++
			}
			worst = max(worst, math.Abs(cosine.Value-wantCosine))
		}
	}

	// Where most cosines are small the mark may come after the certificate, which is absolute; the products that it took are
	// then those to beat.
	mark := fmt.Sprintf("%4d", toMark)
	if toMark == 0 {
		mark, toMark = "more", forms.Products+forms.Setup
	}
	// Conjugate gradients with as many products as the block took to the mark, and at the smallest lambda with ten times as
	// many: a residual that cannot be reached lets them go on to the limit.
	times := 1.0
	if smallest {
		times = fewerAtSmallest
	}
	solution, err := solver.ConjugateGradient(context.Background(), op, lambda, block,
		solver.Options{Tolerance: 1e-13, MaxProducts: int64(times * float64(toMark))})
	must(b, err)
	var form mat.Dense
	form.Mul(solution.X, block.T())
	cgError := influenceError(exact, form.At)
	subspace, _, err := solver.SubspaceForms(op, []float64{lambda}, block, probesOf)
	must(b, err)
	fmt.Printf("%-4s lambda/lambda_max %.0e  block: %s products to 1 %%, %4d to ±0.02 (worst cosine off by %.4f, %d of %d intervals hold)  cg-residual with %2.0f x the products: %3.0f %% off  subspace: %3.0f %% off\n",
		p.name, lambda/p.largest, mark, forms.Products+forms.Setup, worst, contained, entries, times, 100*cgError, 100*influenceError(exact, subspace[0].At))
	name := fmt.Sprintf("%.0e", lambda/p.largest)
	switch {
	case !forms.Converged:
		b.Errorf("at %s: %s", name, forms.Explanation())
	case contained != entries:
		b.Errorf("at %s: %d of %d intervals miss the exact value", name, entries-contained, entries)
	case float64(forms.Products+forms.Setup) > mostToCertify*float64(toMark):
		b.Errorf("at %s: %d products to certify, %d to the mark: more than %g times", name, forms.Products+forms.Setup, toMark, mostToCertify)
	case cgError <= trueError:
		b.Errorf("at %s: conjugate gradients reach the mark with %g times the block's %d products", name, times, toMark)
	}
}

// influenceError is the relative error of the influence of the first rows on all others.
func influenceError(exact *mat.Dense, value func(i, j int) float64) float64 {
	difference, norm := 0.0, 0.0
	for i := range probesOf {
		for j := probesOf; j < 2*probesOf; j++ {
			difference = math.Hypot(difference, value(i, j)-exact.At(i, j))
			norm = math.Hypot(norm, exact.At(i, j))
		}
	}
	return difference / norm
}

func (p *problem) exact(b *testing.B, lambda float64, gradients *mat.Dense) *mat.Dense {
	solution, err := oracle.Cholesky(p.eta, lambda, gradients)
	must(b, err)
	var forms mat.Dense
	forms.Mul(gradients, solution.T())
	return &forms
}
