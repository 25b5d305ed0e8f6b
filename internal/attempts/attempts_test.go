package attempts

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
)

func TestEnding(t *testing.T) {
	at := func(attempt int32, step int64) audit.Moment {
		return audit.Moment{Model: "unet", Attempt: attempt, Step: step}
	}
	decided := func(attempt int32, step int64) audit.DecisionRow { return audit.DecisionRow{Moment: at(attempt, step)} }
	all := func(m *audit.Moment) bool { return m.Model == "unet" }
	other := audit.TrainingRow{Moment: audit.Moment{Model: "vit", Attempt: 9, Step: 9}}
	for name, test := range map[string]struct {
		decisions []audit.DecisionRow
		training  []audit.TrainingRow
		audited   []audit.CoherenceRow
		want      int // among the decisions; -1: it has not ended
	}{
		"none":                    {want: -1},
		"ended":                   {decisions: []audit.DecisionRow{decided(1, 4)}, training: []audit.TrainingRow{{Moment: at(1, 4)}, other}},
		"the latest run":          {decisions: []audit.DecisionRow{decided(1, 4), decided(1, 8)}, want: 1},
		"the latest attempt":      {decisions: []audit.DecisionRow{decided(2, 4), decided(1, 8)}},
		"at the same step":        {decisions: []audit.DecisionRow{decided(1, 4), decided(1, 4)}, want: 1},
		"went on":                 {decisions: []audit.DecisionRow{decided(1, 4)}, training: []audit.TrainingRow{{Moment: at(1, 5)}}, want: -1},
		"from an earlier step":    {decisions: []audit.DecisionRow{decided(1, 4)}, training: []audit.TrainingRow{{Moment: at(2, 3)}}, want: -1},
		"with audits alone":       {decisions: []audit.DecisionRow{decided(1, 4)}, audited: []audit.CoherenceRow{{Moment: at(1, 5)}}, want: -1},
		"concluded after a crash": {decisions: []audit.DecisionRow{decided(2, 4)}, training: []audit.TrainingRow{{Moment: at(1, 4)}}},
	} {
		t.Run(name, func(t *testing.T) {
			records := &audit.Records{Decisions: test.decisions, Training: test.training, Coherence: test.audited}
			if test.want < 0 {
				require.Nil(t, Ending(records, all))
				return
			}
			require.Same(t, &records.Decisions[test.want], Ending(records, all))
		})
	}
}
