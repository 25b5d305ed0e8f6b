// Command symaudit of the peers' benchmark is symaudit's side of it: it reads a request on each line of its standard input and answers it on a line, as
// bench/peers/worker.py does for the others.
//
//	go run ./bench/peers/symaudit setup.json
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/core/tensors/numpy"
	"github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// setup is what table.py writes for all sides.
type setup struct {
	Export      string
	UNet        *models.UNet
	ViT         *models.ViT
	Mean, Scale []float64
}

type index struct {
	Parameters []struct {
		Name   string
		Shape  []int
		Offset int
	}
	Metrics []struct{ Weight float64 }
}

type request struct {
	Do      string
	Lambda  float64
	Limit   float64 // seconds
	Setting struct {
		DType     string
		Tolerance float64
	}
}

type answer struct {
	Seconds  float64            `json:"seconds,omitempty"`
	Late     bool               `json:"late,omitempty"`
	Products int64              `json:"products,omitempty"`
	Values   [][]float64        `json:"values,omitempty"` // of the first states on all
	Norms    []float64          `json:"norms,omitempty"`  // of each with itself
	Stated   *stated            `json:"stated,omitempty"`
	Times    map[string]float64 `json:"times,omitempty"`
	Found    map[string]any     `json:"found,omitempty"`
	PeakMiB  int64              `json:"peak_mib"`
}

// stated is what is said of the values.
type stated struct {
	Low    [][]float64 `json:"low"`
	High   [][]float64 `json:"high"`
	Cosine float64     `json:"cosine"` // largest half-width of a cosine
	Status string      `json:"status"`
}

// problem is one network with its batch and right-hand sides.
type problem struct {
	networks  map[string]*network.Network
	x, y      map[string]*tensors.Tensor
	gradients *mat.Dense // element by element
	states    int
	scale     float64
	predicted []float64 // by the exporting audit
}

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(file string) error {
	p, err := open(file)
	if err != nil {
		return err
	}
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return err
		}
		a, err := p.do(r)
		if err != nil {
			return err
		}
		a.PeakMiB = peakMiB()
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (p *problem) do(r request) (*answer, error) {
	switch r.Do {
	case "check":
		return p.check()
	case "time":
		return p.time(r.Limit)
	case "solve":
		return p.solve(r)
	}
	return nil, fmt.Errorf("unknown request %q", r.Do)
}

func open(file string) (*problem, error) {
	var s setup
	var i index
	if err := decode(file, &s); err != nil {
		return nil, err
	}
	if err := decode(filepath.Join(s.Export, "index.json"), &i); err != nil {
		return nil, err
	}
	read := func(name string) (*tensors.Tensor, error) { return numpy.FromNpyFile(filepath.Join(s.Export, name)) }
	arrays := map[string]*tensors.Tensor{}
	for _, name := range []string{"weights", "d4/inputs", "d4/targets", "d4/predictions", "d4/gradients_loss"} {
		var err error
		if arrays[name], err = read(name + ".npy"); err != nil {
			return nil, err
		}
	}
	choice, err := backend.Open("xla:cpu")
	if err != nil {
		return nil, err
	}
	normalization := models.Normalization{Mean: s.Mean, Scale: s.Scale}
	var fn models.Fn
	if s.UNet != nil {
		s.UNet.Normalization = normalization
		fn = s.UNet.Fn()
	} else {
		s.ViT.Normalization = normalization
		fn = s.ViT.Fn()
	}
	p := &problem{networks: map[string]*network.Network{}, x: map[string]*tensors.Tensor{}, y: map[string]*tensors.Tensor{}, scale: i.Metrics[0].Weight}
	shape := arrays["d4/inputs"].Shape().Dimensions // element, state, y, x, channel
	p.states = shape[1]
	store := storeOf(choice.Backend, fn, shape[2:])
	weights := tensors.MustCopyFlatData[float64](arrays["weights"])
	for _, parameter := range i.Parameters {
		variable := store.GetVariable(parameter.Name)
		if variable == nil {
			return nil, fmt.Errorf("no variable %s", parameter.Name)
		}
		values := make([]float32, variable.Shape().Size())
		for k := range values {
			values[k] = float32(weights[parameter.Offset+k])
		}
		if err := variable.SetValue(tensors.FromFlatDataAndDimensions(values, parameter.Shape...)); err != nil {
			return nil, err
		}
	}
	for name, dtype := range map[string]dtypes.DType{"float32": dtypes.Float32, "float64": dtypes.Float64} {
		if p.networks[name], err = network.New(choice.Backend, fn, audit.Loss, dtype); err != nil {
			return nil, err
		}
		if err := p.networks[name].Load(store); err != nil {
			return nil, err
		}
		if p.x[name], err = unmoved(arrays["d4/inputs"], dtype); err != nil {
			return nil, err
		}
		if p.y[name], err = unmoved(arrays["d4/targets"], dtype); err != nil {
			return nil, err
		}
	}
	gradients := arrays["d4/gradients_loss"].Shape().Dimensions // element, draw, state, parameter
	p.gradients = mat.NewDense(gradients[0]*gradients[2], gradients[3], tensors.MustCopyFlatData[float64](arrays["d4/gradients_loss"]))
	before, err := unmoved(arrays["d4/predictions"], dtypes.Float64)
	if err != nil {
		return nil, err
	}
	p.predicted = tensors.MustCopyFlatData[float64](before)
	return p, nil
}

// storeOf has the variables of the model.
func storeOf(on compute.Backend, fn models.Fn, state []int) *model.Store {
	store := model.NewStore()
	g := graph.NewGraph(on, "variables")
	model.SetStore(g, store)
	fn(store.RootScope(), graph.Parameter(g, "x", shapes.Make(dtypes.Float32, append([]int{1}, state...)...)))
	g.Finalize()
	return store
}

// unmoved are the states of the first element.
func unmoved(all *tensors.Tensor, dtype dtypes.DType) (*tensors.Tensor, error) {
	double, err := network.ConvertDType(all, dtypes.Float64)
	if err != nil {
		return nil, err
	}
	dimensions, size := all.Shape().Dimensions[1:], 1
	for _, d := range dimensions {
		size *= d
	}
	return network.ConvertDType(tensors.FromFlatDataAndDimensions(tensors.MustCopyFlatData[float64](double)[:size], dimensions...), dtype)
}

func decode(file string, to any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

// check compares predictions, and the mean of the gradients of x with that of the batch.
func (p *problem) check() (*answer, error) {
	net := p.networks["float64"]
	prediction, err := net.Predict(p.x["float64"])
	if err != nil {
		return nil, err
	}
	gradient := make([]float64, net.Dim())
	if _, err := net.Gradient(gradient, p.x["float64"], p.y["float64"]); err != nil {
		return nil, err
	}
	found := map[string]any{"prediction": tensors.MustCopyFlatData[float64](prediction), "gradient": gradient, "version": "this tree", "threads": 0}
	return &answer{Found: found}, nil
}

// time takes the shortest times of each in float32, all in turns.
func (p *problem) time(limit float64) (*answer, error) {
	net, x, y := p.networks["float32"], p.x["float32"], p.y["float32"]
	kept, err := net.Factor(x, p.scale, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	defer kept.Close() //nolint:errcheck // frees memory
	metric := net.Metric(x, p.scale)
	v, image := mat.NewDense(1, net.Dim(), nil), mat.NewDense(1, net.Dim(), nil)
	copy(v.RawRowView(0), p.gradients.RawRowView(0))
	single, back, row := make([]float32, net.Dim()), make([]float32, net.Dim()), make([]float64, kept.Rows()) // vectors as a solve in float32 has them
	for i, value := range v.RawRowView(0) {
		single[i] = float32(value)
	}
	works := map[string]func() error{
		"gradient": func() error { _, err := net.Gradient(image.RawRowView(0), x, y); return err },
		"product":  func() error { return metric.Apply(image, v) },
		"kept":     func() error { return errors.Join(kept.ImageOf(row, single), kept.AdjointInto(back, row)) },
	}
	a := &answer{Times: map[string]float64{}}
	for begin, turns := time.Now(), -1; turns < 5 || time.Since(begin).Seconds() < limit; turns++ {
		for name, work := range works {
			start := time.Now()
			if err := work(); err != nil {
				return nil, err
			}
			if took := time.Since(start).Seconds(); turns == 0 || turns > 0 && took < a.Times[name] { // the turn before compiles
				a.Times[name] = took
			}
		}
	}
	return a, nil
}

// solve makes the factor and finds the forms, from right-hand sides on the host to intervals.
func (p *problem) solve(r request) (a *answer, err error) {
	net, options := p.networks[r.Setting.DType], solver.FormOptions{Lambdas: []float64{r.Lambda}, Rows: p.states, Tolerance: r.Setting.Tolerance}
	if r.Limit > 0 {
		options.MaxTime = time.Duration(r.Limit * float64(time.Second))
	}
	if r.Setting.DType == "float32" {
		options.Roundoff = 0x1p-24
	}
	start := time.Now()
	factor, err := net.Factor(p.x[r.Setting.DType], p.scale, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, factor.Close()) }()
	forms, err := solver.BilinearForms(context.Background(), factor, p.gradients, options)
	if err != nil {
		return nil, err
	}
	a = &answer{Products: forms.Products + forms.Setup, Stated: &stated{Cosine: forms.HalfWidth(0), Status: forms.Explanation()}}
	a.Seconds = time.Since(start).Seconds()
	a.Late = r.Limit > 0 && a.Seconds > r.Limit
	all, _ := p.gradients.Dims()
	for i := range p.states {
		values, low, high := make([]float64, all), make([]float64, all), make([]float64, all)
		for j := range all {
			form := forms.Form(0, i, j)
			values[j], low[j], high[j] = form.Value, finite(form.Low), finite(form.High)
		}
		a.Values, a.Stated.Low, a.Stated.High = append(a.Values, values), append(a.Stated.Low, low), append(a.Stated.High, high)
	}
	for i := range all {
		a.Norms = append(a.Norms, forms.Form(0, i, i).Value)
	}
	a.Stated.Cosine = finite(a.Stated.Cosine)
	return a, nil
}

// finite is a number that JSON has.
func finite(x float64) float64 { return min(math.MaxFloat64, max(-math.MaxFloat64, x)) }

func peakMiB() int64 {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return used.Maxrss >> 10
}
