package trainer

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
)

func TestGroupsOfAConfiguration(t *testing.T) {
	source := `
data: {euler: {resolution: 16, interval: 0.05}}
audit:
  groups:
    - name: boosts
      velocities: [{x: 1.25}, {x: -0.5, y: 2}]
    - {name: scalings, factors: [0.5, 2]}
    - {name: c4*translations, stride: 7.5}
    - {name: reflections}
    - {name: reflections-grid-only}
`
	config, err := ParseConfig([]byte(source))
	require.NoError(t, err)
	require.NoError(t, config.Validate())
	again, err := ParseConfig([]byte(config.String()))
	require.NoError(t, err)
	require.Equal(t, config.Audit.Groups, again.Audit.Groups)
	var names []string
	var boosted orbits.Element
	for _, g := range config.Audit.Groups {
		group, err := g.group(config.Data.generated(0, ""))
		require.NoError(t, err)
		require.Equal(t, g.Name, group.Name)
		elements, err := group.Elements(16, 16)
		require.NoError(t, err)
		names = append(names, fmt.Sprint(elements))
		if g.Name == orbits.BoostsName {
			boosted = elements[1]
		}
	}
	require.Equal(t, []string{
		"[e boost(0,1.25) boost(2,-0.5)]",
		"[e scale(0.5) scale(2)]",
		"[e t(0,7.5) t(0,15) t(7.5,0) t(15,0) r t(7.5,0)r t(15,0)r t(0,8.5)r t(0,1)r" +
			" r2 t(0,8.5)r2 t(0,1)r2 t(8.5,0)r2 t(1,0)r2 r3 t(8.5,0)r3 t(1,0)r3 t(0,7.5)r3 t(0,15)r3]",
		"[e s sr2 r2]",
		"[e s sr2 r2]",
	}, names)
	want, err := orbits.Boosts(0.05*16, orbits.Vector{X: 1.25}).Elements(16, 16)
	require.NoError(t, err)
	require.Equal(t, want[1], boosted, "a velocity of 1.25 crosses a pixel of the unit square's 16 in 0.05")
}

func TestElementsOfAGroup(t *testing.T) {
	config := parsed(t, "audit: {groups: [{name: d4, elements: [r, s]}, {name: translations, stride: 16, elements: ['t(0,16)']}]}")
	require.NoError(t, config.Validate())
	for i, want := range []string{"[e r s]", "[e t(0,16)]"} {
		group, err := config.Audit.Groups[i].group(config.Data.generated(0, ""))
		require.NoError(t, err)
		elements, err := group.Elements(32, 32)
		require.NoError(t, err)
		require.Equal(t, want, fmt.Sprint(elements))
	}
	config.Audit.Groups[0].Elements = []string{"r5"}
	require.ErrorContains(t, config.Validate(), `trainer: audit.groups: group d4 has no element "r5"; it has e, r, r2, r3, s, sr, sr2, sr3`)
}

// A model is symmetrized over a group that the data can be moved by, or refused before anything is made.
func TestSymmetrizeSuitsTheData(t *testing.T) {
	line := dataset.Description{Field: orbits.Field{Channels: []string{"u"}}, Grid: []int{16}}
	symmetrized := func(group string) Model {
		return Model{Name: "a", FNO: &models.FNO{Width: 4, Modes: 4, Layers: 1}, Symmetrize: group}
	}
	require.NoError(t, symmetrized("reflections").validate(line))
	require.ErrorContains(t, symmetrized("c4").validate(line), "symmetrize: ")
}
