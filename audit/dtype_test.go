package audit_test

import (
	"context"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// A model that computes in a precision of its own is audited in that, or refused by name.
func TestModelsWithAPrecisionOfTheirOwn(t *testing.T) {
	// of is a layer with variables in one precision and computing in another.
	of := func(variables, computes dtypes.DType) func(scope *model.Scope, x *graph.Node) *graph.Node {
		return func(scope *model.Scope, x *graph.Node) *graph.Node {
			own := variables
			if own == dtypes.InvalidDType {
				own = x.DType()
			}
			inside := computes
			if inside == dtypes.InvalidDType {
				inside = own
			}
			w := graph.ConvertDType(scope.In("layer").VariableWithShape("weights", shapes.Make(own, 4, 4)).NodeValue(x), inside)
			return graph.ConvertDType(graph.Tanh(graph.Einsum("nyxc,cd->nyxd", graph.ConvertDType(x, inside), w)), x.DType())
		}
	}
	const follows = dtypes.InvalidDType
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for name, test := range map[string]struct {
			fn   func(scope *model.Scope, x *graph.Node) *graph.Node
			in   dtypes.DType
			want string
		}{
			"single in single":            {of(dtypes.Float32, follows), dtypes.Float32, ""},
			"single in double":            {of(dtypes.Float32, follows), dtypes.Float64, "audit: the model makes variables in float32 whatever the precision of its input, and the audit is in float64: audit it in float32 (WithDType)"},
			"double in double":            {of(dtypes.Float64, follows), dtypes.Float64, ""},
			"double in single":            {of(dtypes.Float64, follows), dtypes.Float32, "audit: the model makes variables in float64 whatever the precision of its input, and the audit is in float32: audit it in float64 (WithDType)"},
			"half":                        {of(dtypes.BFloat16, follows), dtypes.Float32, "audit: the model makes variables in bfloat16 whatever the precision of its input, and the audit is in float32: let it make them in the precision of its input, of which audits are float32 or float64"},
			"computes in half":            {of(follows, dtypes.BFloat16), dtypes.Float32, "audit: the model computes in bfloat16 in layer /layer, whatever the precision of its input: let it compute in that, of which audits are float32 or float64"},
			"computes in half, in double": {of(follows, dtypes.BFloat16), dtypes.Float64, "audit: the model computes in bfloat16 in layer /layer"},
			"computes in single":          {of(follows, dtypes.Float32), dtypes.Float64, "audit: the model computes in float32 in layer /layer, whatever the precision of its input: audit it in float32 (WithDType)"},
		} {
			t.Run(name, func(t *testing.T) {
				store := model.NewStore()
				store.SetParam(model.ParamInitialSeed, int64(7))
				model.MustNewExec(b, store, test.fn).MustCall(batch(flow(1, 2)))
				auditor, err := audit.New(source{b, store}, test.fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes(2, 0)).WithDType(test.in).Done()
				require.NoError(t, err)
				defer auditor.Close()
				_, preflight := auditor.Preflight(context.Background())
				_, err = auditor.Audit(context.Background(), audit.Moment{})
				if test.want == "" {
					require.NoError(t, preflight)
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, preflight, test.want)
				require.ErrorContains(t, err, test.want)
			})
		}
	})
}
