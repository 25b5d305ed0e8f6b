package forward_test

import (
	"fmt"
	"testing"

	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
)

// The models that come with symaudit, in one, two and three dimensions: forward mode against finite differences and reverse mode.
func TestModels(t *testing.T) {
	spaces := [][]int{{1, 8, 4}, {1, 4, 6, 4}, {1, 4, 6, 4, 4}}
	on := func(name string, state []int, fn models.Fn) layerCase {
		return layer(fmt.Sprint(name, " ", len(state)-2), state, fn)
	}
	var whole, convolutions []layerCase
	for _, state := range spaces {
		whole = append(whole,
			on("UNet", state, models.UNet{Widths: []int{4, 4}, Blocks: 1, Groups: 2, Heads: 2}.Fn()),
			on("ViT", state, models.ViT{Patch: 2, Width: 4, Layers: 1, Heads: 2, Expansion: 1}.Fn()),
			on("FNO", state, models.FNO{Width: 3, Modes: 2, Layers: 2}.Fn()))
		convolutions = append(convolutions, on("Conv", state, func(s *model.Scope, x node) node { return models.Conv(s, x, 3, 3, 2) }))
	}
	checkLayers(t, backendtest.Go(t), whole) // XLA compiles these slowly, and has another graph for convolutions alone
	checkLayers(t, backendtest.XLA(t), convolutions)
}
