package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/npy"
)

// What index.json says.
type (
	exportIndex struct {
		SchemaVersion   int               `json:"schema_version"`
		Model           string            `json:"model"`
		Seed            int64             `json:"seed"`
		Step            int64             `json:"step"`
		Epoch           float64           `json:"epoch"`
		Metric          Metric            `json:"metric"`
		Estimator       Estimator         `json:"estimator"`
		AuditDType      string            `json:"audit_dtype"`  // of the audit's products and predictions
		ArraysDType     string            `json:"arrays_dtype"` // in which gradients and Jacobians were computed
		InvariantOutput bool              `json:"invariant_output"`
		Settings        map[string]string `json:"settings"` // Auditor.Settings
		Parameters      []exportParameter `json:"parameters"`
		Groups          []exportGroup     `json:"groups"`
		Metrics         []exportMetric    `json:"metrics"`
		Arrays          []exportArray     `json:"arrays"`
	}
	exportParameter struct {
		Name   string `json:"name"`
		Shape  []int  `json:"shape"`
		Offset int    `json:"offset"` // of its first value in the axis "parameter"
	}
	exportGroup struct {
		Name       string            `json:"name"`
		Folder     string            `json:"folder"`
		Elements   []string          `json:"elements"` // the identity first
		BatchSize  int               `json:"batch_size"`
		Metrics    []int             `json:"metrics"` // by batch, numbers in "metrics"
		Directions []exportDirection `json:"directions"`
		Samples    []exportSample    `json:"samples"`
	}
	exportDirection struct { // of influence
		Name string `json:"name"`
		AtX  string `json:"at_x"` // whose gradients are on either side
		AtGX string `json:"at_gx"`
	}
	exportSample struct {
		Class      string `json:"class"`
		Trajectory int64  `json:"trajectory"`
		TimeIndex  int32  `json:"time_index"`
	}
	exportMetric struct {
		Folder          string    `json:"folder"`
		Weight          float64   `json:"weight"`
		LambdaMax       float64   `json:"lambda_max"`
		Lambdas         []float64 `json:"lambdas"`
		RelativeLambdas []float64 `json:"relative_lambdas,omitempty"`
	}
	exportArray struct {
		File    string   `json:"file"`
		Shape   []int    `json:"shape"`
		DType   string   `json:"dtype"`
		Axes    []string `json:"axes"`
		Unit    string   `json:"unit"`
		Meaning string   `json:"meaning"`
	}
)

const exportSchemaVersion = 1

// shortened puts the lists of numbers and of names in a JSON text on a line each.
func shortened(text []byte) []byte {
	return innerList.ReplaceAllFunc(text, func(list []byte) []byte {
		words := strings.Split(lineBreak.ReplaceAllString(string(list), "\n"), "\n") // [ 1, 2, ... ], for no string has a break in JSON
		return []byte(words[0] + strings.Join(words[1:len(words)-1], " ") + words[len(words)-1])
	})
}

var (
	innerList = regexp.MustCompile(`\[\n[^\[\]{}]*\n\s*\]`)
	lineBreak = regexp.MustCompile(`\n\s*`)
)

// array writes one of the index by a function that adds all of its elements.
func (x *export) array(of exportArray, dtype dtypes.DType, add func(*npy.Array) error) error {
	return x.arrayBy(npy.Create, of, dtype, add)
}

func (x *export) arrayBy(create func(string, dtypes.DType, []int) (*npy.Array, error), of exportArray, dtype dtypes.DType, add func(*npy.Array) error) error {
	of.DType = strings.ToLower(dtype.String())
	path := filepath.Join(x.dir, filepath.FromSlash(of.File))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	file, err := create(path, dtype, of.Shape)
	if err != nil {
		return err
	}
	x.index.Arrays = append(x.index.Arrays, of)
	return errors.Join(add(file), file.Close())
}

// floats writes an array of float64 that is at hand.
func (x *export) floats(of exportArray, elements []float64) error {
	return x.array(of, dtypes.Float64, func(file *npy.Array) error { return file.Floats(elements...) })
}

// tensors writes tensors of one shape as one array with an axis before theirs, or a single one as it is.
func (x *export) tensors(of exportArray, all ...*tensors.Tensor) error {
	shape := all[0].Shape()
	of.Shape = slices.Clone(shape.Dimensions)
	if len(of.Axes) > len(of.Shape) {
		of.Shape = append([]int{len(all)}, of.Shape...)
	}
	return x.array(of, shape.DType, func(file *npy.Array) (err error) {
		for _, t := range all {
			failed := t.ConstBytes(func(elements []byte) { _, err = file.Write(elements) })
			if err = errors.Join(failed, err); err != nil {
				return err
			}
		}
		return nil
	})
}

// axesOf names the axes of samples [n, ...]: of states on a grid those of space.
func axesOf(t *tensors.Tensor, first ...string) []string {
	after := t.Rank() - 1
	if space := []string{"z", "y", "x"}; after > 1 && after-1 <= len(space) {
		return append(append(first, space[len(space)-after+1:]...), "channel")
	}
	for i := range after {
		first = append(first, fmt.Sprintf("axis_%d", i))
	}
	return first
}

// columns writes a matrix that is known by its products with vectors, a few columns at a time.
func (x *export) columns(of exportArray, image func(dst, v *mat.Dense) error) error {
	return x.arrayBy(npy.CreateByColumns, of, dtypes.Float64, func(file *npy.Array) error {
		const together = 16
		rows, dim := of.Shape[0], of.Shape[1]
		for from := 0; from < dim; from += together {
			if err := context.Cause(x.ctx); err != nil {
				return err
			}
			k := min(together, dim-from)
			basis, columns := mat.NewDense(k, dim, nil), mat.NewDense(k, rows, nil)
			for i := range k {
				basis.Set(i, from+i, 1)
			}
			if err := image(columns, basis); err != nil {
				return err
			}
			if err := file.Floats(columns.RawMatrix().Data...); err != nil {
				return err
			}
		}
		return nil
	})
}
