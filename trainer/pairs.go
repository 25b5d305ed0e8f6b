package trainer

import (
	"fmt"
	"iter"
	"math/rand/v2"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// transition is a step from one snapshot to the next, of one trajectory: pairs never cross the end of a trajectory.
type transition struct{ family, trajectory, time int }

// states gives access to the snapshots of all families.
type states struct {
	all               []Trajectories
	trajectories      int // for training; those after are probes
	probes            int
	snapshots         int
	height, width     int
	channels, perGrid int
	values            [][]float32 // by family
}

func newStates(config Config, all []Trajectories) (*states, error) {
	dimensions := all[0].States.Shape().Dimensions
	s := &states{
		all: all, trajectories: config.Data.Trajectories, probes: config.Data.Probes,
		snapshots: dimensions[1], height: dimensions[2], width: dimensions[3], channels: dimensions[4],
		perGrid: dimensions[2] * dimensions[3] * dimensions[4],
	}
	for _, t := range all {
		values, err := tensors.CopyFlatData[float32](t.States)
		if err != nil {
			return nil, fmt.Errorf("trainer: family %s: %w", t.Family, err)
		}
		s.values = append(s.values, values)
	}
	return s, nil
}

func (s *states) snapshot(at transition) []float32 {
	index := at.trajectory*s.snapshots + at.time
	return s.values[at.family][index*s.perGrid : (index+1)*s.perGrid]
}

// batch returns the states before and after some transitions, [n, y, x, channel].
func (s *states) batch(transitions []transition) (before, after *tensors.Tensor) {
	x := make([]float32, 0, len(transitions)*s.perGrid)
	y := make([]float32, 0, len(transitions)*s.perGrid)
	for _, at := range transitions {
		x = append(x, s.snapshot(at)...)
		at.time++
		y = append(y, s.snapshot(at)...)
	}
	return tensors.FromFlatDataAndDimensions(x, len(transitions), s.height, s.width, s.channels),
		tensors.FromFlatDataAndDimensions(y, len(transitions), s.height, s.width, s.channels)
}

// trainingTransitions lists every step of every training trajectory.
func (s *states) trainingTransitions() []transition {
	var all []transition
	for family := range s.all {
		for trajectory := range s.trajectories {
			for time := range s.snapshots - 1 {
				all = append(all, transition{family, trajectory, time})
			}
		}
	}
	return all
}

// probesFor selects the held-out steps a group is audited on: of each probe trajectory the first, and for translations the
// last that does not touch the end of the time domain. A batch has one trajectory of each family.
//
// metrics are what the metric of each batch is over, if not the batch: one of metricStates for each.
func (s *states) probesFor(group orbits.Group, metrics []*audit.MetricStates) audit.Probes {
	time := 0
	if group.Name == orbits.TranslationsName {
		time = max(0, s.snapshots-3)
	}
	var transitions []transition
	var samples []audit.Sample
	for probe := range s.probes {
		for family := range s.all {
			at := transition{family, s.trajectories + probe, time}
			transitions = append(transitions, at)
			samples = append(samples, audit.Sample{
				Class: s.all[family].Family.Label(), Trajectory: int64(at.trajectory), TimeIndex: int32(time),
			})
		}
	}
	x, y := s.batch(transitions)
	return audit.Probes{Inputs: x, Targets: y, Samples: samples, BatchSize: len(s.all), Metrics: metrics}
}

// metricStates are all steps of the probe trajectories, by batch: one trajectory of each family.
func (s *states) metricStates() (all []*audit.MetricStates) {
	for probe := range s.probes {
		var transitions []transition
		for family := range s.all {
			for time := range s.snapshots - 1 {
				transitions = append(transitions, transition{family, s.trajectories + probe, time})
			}
		}
		x, y := s.batch(transitions)
		all = append(all, &audit.MetricStates{Inputs: x, Targets: y})
	}
	return all
}

// normalization is fitted to the training states.
func (s *states) normalization() (models.Normalization, error) {
	x, _ := s.batch(s.trainingTransitions())
	n, err := models.FitNormalization(orbits.EulerField(), x)
	if err != nil {
		return n, fmt.Errorf("trainer: %w", err)
	}
	return n, nil
}

// dataset yields all training transitions once in each epoch, in an order that depends on the seed and the epoch only,
// so that a resumed run sees what it would have seen.
type dataset struct {
	states      *states
	transitions []transition
	batchSize   int
	seed        int64
	epoch       int // of the next Iter
}

func (s *states) dataset(config Config, epoch int) *dataset {
	transitions := s.trainingTransitions()
	return &dataset{
		states: s, transitions: transitions,
		batchSize: min(config.Training.BatchSize, len(transitions)), seed: config.Seed, epoch: epoch,
	}
}

func (d *dataset) Name() string { return "transitions" }

func (d *dataset) stepsPerEpoch() int {
	return (len(d.transitions) + d.batchSize - 1) / d.batchSize
}

func (d *dataset) Iter() iter.Seq2[train.Batch, error] {
	order := rand.New(rand.NewPCG(uint64(d.seed), uint64(d.epoch))).Perm(len(d.transitions))
	d.epoch++
	return func(yield func(train.Batch, error) bool) {
		for len(order) > 0 {
			chosen := make([]transition, 0, d.batchSize)
			for _, i := range order[:min(d.batchSize, len(order))] {
				chosen = append(chosen, d.transitions[i])
			}
			order = order[len(chosen):]
			x, y := d.states.batch(chosen)
			if !yield(train.Batch{Inputs: []*tensors.Tensor{x}, Labels: []*tensors.Tensor{y}}, nil) {
				return
			}
		}
	}
}
