package network

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/dtypes/float16"
	"github.com/gomlx/compute/dtypes/gotype"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
)

// ConvertDType returns a copy of t in another precision; to Float32 or Float64 from any float type, or a plain copy.
func ConvertDType(t *tensors.Tensor, to dtypes.DType) (*tensors.Tensor, error) {
	from := t.DType()
	if from == to {
		return t.LocalClone()
	}
	converted := tensors.FromShape(shapes.Make(to, t.Shape().Dimensions...))
	var err error
	switch {
	case from == dtypes.Float32 && to == dtypes.Float64:
		err = convert[float32, float64](converted, t)
	case from == dtypes.Float64 && to == dtypes.Float32:
		err = convert[float64, float32](converted, t)
	case from == dtypes.Float16 || from == dtypes.BFloat16:
		return widened(t, to)
	default:
		err = fmt.Errorf("network: cannot convert %s to %s; only float32 and float64 are supported, and half precision as what is converted", from, to)
	}
	return converted, err
}

// widened converts a half precision, by way of float32, which holds all of its values.
func widened(t *tensors.Tensor, to dtypes.DType) (*tensors.Tensor, error) {
	single := tensors.FromShape(shapes.Make(dtypes.Float32, t.Shape().Dimensions...))
	var err error
	if t.DType() == dtypes.Float16 {
		err = fromHalf[float16.Float16](single, t)
	} else {
		err = fromHalf[bfloat16.BFloat16](single, t)
	}
	if err != nil || to == dtypes.Float32 {
		return single, err
	}
	return ConvertDType(single, to)
}

func fromHalf[From interface {
	gotype.Supported
	Float32() float32
}](dst, src *tensors.Tensor) error {
	return tensors.ConstFlatData(src, func(from []From) {
		tensors.MustMutableFlatData(dst, func(to []float32) {
			for i, value := range from {
				to[i] = value.Float32()
			}
		})
	})
}

func convert[From, To float32 | float64](dst, src *tensors.Tensor) error {
	return tensors.ConstFlatData(src, func(from []From) {
		tensors.MustMutableFlatData(dst, func(to []To) {
			scaleInto(to, from, 1)
		})
	})
}

// fill writes a multiple of a vector to a tensor of its size.
func fill[From float32 | float64](dst *tensors.Tensor, values []From, scale float64) error {
	if dst.DType() == dtypes.Float64 {
		return tensors.MutableFlatData(dst, func(flat []float64) { scaleInto(flat, values, scale) })
	}
	return tensors.MutableFlatData(dst, func(flat []float32) { scaleInto(flat, values, scale) })
}

// scaleInto writes scale src to dst, rounded once.
func scaleInto[To, From float32 | float64](dst []To, src []From, scale float64) {
	if same, ok := any(dst).([]From); ok && scale == 1 {
		copy(same, src)
		return
	}
	for i, value := range src {
		dst[i] = To(scale * float64(value))
	}
}

// Values returns the values of a float tensor and frees it.
func Values(t *tensors.Tensor) ([]float64, error) {
	values := make([]float64, t.Size())
	return values, drain(values, t)
}

// drain copies a result to dst and frees it at once: left to the garbage collector, results pile up on the device and
// a product takes half as long again.
func drain(dst []float64, result *tensors.Tensor) error { return drainScaled(dst, result, 1) }

// drainScaled is drain of a multiple of a result.
func drainScaled[To float32 | float64](dst []To, result *tensors.Tensor, scale float64) error {
	if result.Size() != len(dst) {
		return fmt.Errorf("network: a result has %d values where %d were expected", result.Size(), len(dst))
	}
	var err error
	switch result.DType() {
	case dtypes.Float64:
		err = tensors.ConstFlatData(result, func(flat []float64) { scaleInto(dst, flat, scale) })
	case dtypes.Float32:
		err = tensors.ConstFlatData(result, func(flat []float32) { scaleInto(dst, flat, scale) })
	default:
		err = fmt.Errorf("network: a result is %s; expected float32 or float64", result.DType())
	}
	if err != nil {
		return err
	}
	return result.FinalizeAll()
}
