package writers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/solver"
)

const version1 = "testdata/version1" // fixture.go.txt wrote it

func TestRunsOfVersion1AreRead(t *testing.T) {
	contents, err := Read(version1)
	require.NoError(t, err)
	require.Equal(t, 1, contents.Info.SchemaVersion)
	require.Len(t, contents.Resumes, 1)
	records := contents.Records

	var steps []audit.Moment
	for _, row := range records.Training {
		require.Equal(t, 0.5, row.Loss)
		steps = append(steps, row.Moment)
	}
	at := func(attempt int32, model string, step int64, epoch float64) audit.Moment {
		return audit.Moment{RunID: "20260101T000000Z-0000fee1", Attempt: attempt, Model: model, Seed: 3, Step: step, Epoch: epoch}
	}
	unet20, vit20 := at(2, "unet", 20, 2), at(2, "vit", 20, 2)
	require.Equal(t, []audit.Moment{at(1, "unet", 10, 1), unet20, at(2, "vit", 10, 1), vit20}, steps, "step 20 of the first attempt is superseded")

	require.Len(t, records.Errors, 4*2*4) // audits, elements, samples
	require.Equal(t, audit.ErrorRow{
		Moment: unet20, Sample: 3, Class: "CE-CRP", Trajectory: 103, TimeIndex: 3, Batch: 1, BatchSize: 2, GroupName: "c4", Element: "r",
		TargetError: 1, CommutatorError: 0.375, IdentityError: 0.25, PersistenceError: new(0.75),
	}, records.Errors[8+7])
	require.Zero(t, records.Errors[24+7].BatchSize, "an audit of outputs alone does not tell it")
	require.Equal(t, int32(3), records.Errors[24+7].Sample)

	require.Len(t, records.Influence, 3*2*2*2*4) // audits, lambdas, batches, elements, pairs
	pair := records.Influence[32+8+4+1]          // the second audit's second batch, element r, samples 0 and 1 of the batch
	require.Equal(t, audit.InfluenceRow{
		Moment: unet20, Batch: 1, BatchSize: 2, GroupName: "c4", Element: "r",
		RowSample: 2, RowClass: "CE-RP", RowTrajectory: 102, RowTimeIndex: 2,
		ColSample: 3, ColClass: "CE-CRP", ColTrajectory: 103, ColTimeIndex: 3,
		Lambda: 0.5, Influence: 5, InfluenceLow: new(4.375), InfluenceHigh: new(5.625), FrobeniusScaled: new(0.5),
		Cosine: new(0.625), CosineLow: new(0.5), CosineHigh: new(0.75), Estimator: "block",
	}, pair)
	uncertified := records.Influence[32+8+4+3]
	require.Equal(t, 0.625, *uncertified.Cosine)
	require.Nil(t, uncertified.CosineLow, "bounds of -1 and 1 certify nothing")
	require.Nil(t, uncertified.CosineHigh)

	require.Len(t, records.Solves, 3*2*2)
	require.Equal(t, audit.SolveRow{
		Moment: unet20, GroupName: "c4", BatchSize: 2, Metric: "ntk", MetricScale: "mean", DType: "Float32", Estimator: "block", RHS: 4,
		Lambda: 0.5, LambdaMax: 500, BlockSize: 4, Iterations: 9, Products: 36, SetupProducts: 12,
		MaxTrueResidual: new(0.0625), MaxHalfWidth: new(0.125), Status: solver.Converged,
		Seconds: 1.5,
	}, records.Solves[4])
	limited := records.Solves[5]
	require.Equal(t, solver.ProductLimit, limited.Status)
	require.Equal(t, "the widest interval of a cosine is ±1 after 36 products, above the tolerance 0.02; the product limit was reached: raise it, lambda or the tolerance", *limited.Explanation)
	require.Nil(t, limited.MaxHalfWidth)
	require.Nil(t, records.Solves[6].MaxTrueResidual, "it was measured at the smallest lambda")

	require.Len(t, records.Coherence, 3*2*3+3)
	summary := records.Coherence[6+2]
	require.Equal(t, audit.CoherenceRow{
		Moment: unet20, GroupName: "c4", Element: "*", Metric: "ntk", Estimator: "block", Lambda: new(0.5), N: 3, NWithoutCosine: 1,
		Mean: new(0.625), Median: new(0.625), MedianLow: new(0.5), MedianHigh: new(0.75),
		Q05: new(0.625), Q25: new(0.625), Q75: new(0.625), Q95: new(0.625), Variance: new(0.0), NegativeFraction: new(0.0),
		NErrors: 4, NFiniteTargetErrors: 4, NFiniteCommutatorErrors: 4, MedianTargetError: new(0.625), MedianCommutatorError: new(0.1875),
	}, summary)
	require.Nil(t, records.Coherence[6+1].MedianLow)
	outputs := records.Coherence[18+2]
	require.Equal(t, audit.CoherenceRow{Moment: vit20, GroupName: "c4", Element: "*", NErrors: 4, NFiniteTargetErrors: 3, NFiniteCommutatorErrors: 4,
		MedianCommutatorError: new(0.1875)}, outputs, "no damping, no metric, no median of values that are not finite")
}

func TestSentencesOfVersion1BecomeWords(t *testing.T) {
	for sentence, want := range map[string]solver.Status{
		"converged": solver.Converged,
		"2 of 9 right-hand sides are above the tolerance 0.01, the worst at 0.2, after 40 products; the product limit was reached: raise it, or lambda":              solver.ProductLimit,
		"2 of 9 right-hand sides are above the tolerance 0.01, the worst at 0.2, after 40 products; rounding stops it there: use float64 or a larger lambda":         solver.Rounding,
		"the widest interval of a cosine is ±0.1 after 9 products, above the tolerance 0.02; the time limit was reached: raise it, lambda or the tolerance":          solver.TimeLimit,
		"the widest interval of a cosine is ±0.1 after 9 products, above the tolerance 0.02; the memory limit of 9 bytes was reached: raise it":                      solver.MemoryLimit,
		"nothing is certified at lambda = 1 and below: products with the metric are not symmetric, by 0.1 where lambda_max is 2":                                     solver.Asymmetric,
		"nothing is certified at lambda = 1e-09 and below: rounding in the products, 1e-08 where lambda_max is 2, is of its size; use float64 or lambda above 1e-07": solver.Rounding,
		"something else": "",
	} {
		require.Equal(t, want, status(sentence), sentence)
	}
	row := solveRow1{Estimator: "subspace", Status: "converged"}.convert()
	require.Equal(t, solver.Uncertified, row.Status)
	require.Nil(t, row.Explanation)
}

// Rows of two versions in one folder would be no table to most readers.
func TestARunOfAnEarlierVersionIsNotResumed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(version1)))
	_, err := Parquet(dir).WithResume().Done()
	require.EqualError(t, err, "writers: "+dir+" has schema version 1, and rows of version 2 would not join its tables; end it with the symaudit that began it, or choose another directory")
	require.NoError(t, Parquet(filepath.Join(dir, "other")).Check())
}
