package trainer

import (
	"errors"
	"iter"
	"math/rand/v2"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/distributed"
	"github.com/gomlx/gomlx/core/tensors"
	gomlxdataset "github.com/gomlx/gomlx/ml/dataset"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
)

// transition is the step that begins at a snapshot, to the next of the same trajectory: pairs never cross the end of a trajectory.
type transition = dataset.Snapshot

// states gives access to the snapshots that a configuration has selected. They are read where they are needed, and held nowhere.
type states struct {
	*dataset.Set
	families        []int // indices of those of the configuration
	training, tests dataset.Split
	heldOut         dataset.Split // which the model is evaluated on: for validation, or without such trajectories tests
	steps           int           // of each trajectory
}

func newStates(config Config, set *dataset.Set) *states {
	s := &states{Set: set, training: set.Split(dataset.Train), tests: set.Split(dataset.Test), steps: config.Data.steps(set.Description)}
	s.training.Count, s.tests.Count = config.Data.Trajectories, config.Data.Probes
	if s.heldOut = s.tests; config.Data.Validation > 0 {
		s.heldOut = set.Split(dataset.Validation)
		s.heldOut.Count = config.Data.Validation
	}
	for _, name := range config.Data.Families {
		s.families = append(s.families, set.Family(name))
	}
	return s
}

// batch returns the states before and after some transitions, [n, y, x, channel].
func (s *states) batch(transitions []transition) (before, after *tensors.Tensor, err error) {
	if before, err = s.Batch(transitions); err != nil {
		return nil, nil, err
	}
	next := slices.Clone(transitions)
	for i := range next {
		next[i].Time++
	}
	if after, err = s.Batch(next); err != nil {
		return nil, nil, errors.Join(err, before.FinalizeAll())
	}
	return before, after, nil
}

// trainingTransitions lists every step of every training trajectory.
func (s *states) trainingTransitions() []transition {
	var all []transition
	for _, family := range s.families {
		for trajectory := range s.training.Count {
			for time := range s.steps {
				all = append(all, transition{Family: family, Trajectory: s.training.First + trajectory, Time: time})
			}
		}
	}
	return all
}

// probesFor selects the held-out steps a group is audited on: of each probe trajectory the first, and for translations the
// last that does not touch the end of the time domain. A batch has one trajectory of each family.
//
// metrics are what the metric of each batch is over, if not the batch: one of metricStates for each.
func (s *states) probesFor(group orbits.Group, metrics []*audit.MetricStates) (audit.Probes, error) {
	time := 0
	if group.Name == orbits.TranslationsName {
		time = max(0, s.steps-2)
	}
	var transitions []transition
	var samples []audit.Sample
	for probe := range s.tests.Count {
		for _, family := range s.families {
			at := transition{Family: family, Trajectory: s.tests.First + probe, Time: time}
			transitions = append(transitions, at)
			samples = append(samples, audit.Sample{Class: s.Families[family].Label, Trajectory: int64(at.Trajectory), TimeIndex: int32(time)})
		}
	}
	x, y, err := s.batch(transitions)
	return audit.Probes{Inputs: x, Targets: y, Samples: samples, BatchSize: len(s.families), Metrics: metrics}, err
}

// metricStates are all steps of the probe trajectories, by batch: one trajectory of each family.
func (s *states) metricStates() (all []*audit.MetricStates, err error) {
	for probe := range s.tests.Count {
		var transitions []transition
		for _, family := range s.families {
			for time := range s.steps {
				transitions = append(transitions, transition{Family: family, Trajectory: s.tests.First + probe, Time: time})
			}
		}
		x, y, err := s.batch(transitions)
		if err != nil {
			return nil, err
		}
		all = append(all, &audit.MetricStates{Inputs: x, Targets: y})
	}
	return all, nil
}

// normalization is fitted to the states that are trained on: to all, or where they are many to some, evenly spread.
func (s *states) normalization() (models.Normalization, error) {
	const most = 256 << 20 // bytes
	all := s.trainingTransitions()
	each := int(s.Bytes() / int64(len(s.Families)*s.Trajectories*s.Snapshots))
	fitted := min(len(all), max(1, most/each))
	for i := range fitted {
		all[i] = all[i*len(all)/fitted]
	}
	x, err := s.Batch(all[:fitted])
	if err != nil {
		return models.Normalization{}, cause.In("trainer", err)
	}
	defer x.MustFinalizeAll()
	n, err := models.FitNormalization(s.Field, x)
	return n, cause.In("trainer", err)
}

// batches yields all training transitions once in each epoch, without end. Their order depends on the seed and the epoch alone, so that a resumed run sees
// what it would have seen.
type batches struct {
	states      *states
	transitions []transition
	batchSize   int
	seed        int64
	from        int // steps of the training that are behind
	unroll      int
	devices     int           // that a batch is dealt out to, one piece after the other
	augment     *augmentation // nil: none
}

func (s *states) batches(config Config, seed int64, from int) *batches {
	unroll := max(1, config.Training.Unroll)
	transitions := slices.DeleteFunc(s.trainingTransitions(), func(at transition) bool { return at.Time+unroll > s.steps })
	return &batches{
		states: s, transitions: transitions, batchSize: min(config.Training.BatchSize, len(transitions)), seed: seed, from: from, unroll: unroll, devices: max(1, config.Training.Devices),
	}
}

func (b *batches) Name() string { return "transitions" }

func (b *batches) stepsPerEpoch() int {
	return (len(b.transitions) + b.batchSize - 1) / b.batchSize
}

// stepsOf is the number of optimizer steps of a whole training on data that are so described.
func (c Config) stepsOf(data dataset.Description) int {
	transitions := c.transitions(data)
	batch := min(c.Training.BatchSize, transitions)
	return c.Training.Epochs * ((transitions + batch - 1) / batch)
}

// transitions are how many an epoch has.
func (c Config) transitions(data dataset.Description) int {
	return len(c.Data.Families) * c.Data.Trajectories * (c.Data.steps(data) - max(1, c.Training.Unroll) + 1)
}

func (b *batches) Iter() iter.Seq2[train.Batch, error] {
	return func(yield func(train.Batch, error) bool) {
		for step := b.from; ; {
			epoch := step / b.stepsPerEpoch()
			order := rand.New(rand.NewPCG(uint64(b.seed), uint64(epoch))).Perm(len(b.transitions))
			for ; step/b.stepsPerEpoch() == epoch; step++ {
				first := step % b.stepsPerEpoch() * b.batchSize
				all, err := b.batch(order[first:min(first+b.batchSize, len(order))], step)
				if err != nil {
					yield(train.Batch{}, err)
					return
				}
				for device := range b.devices {
					batch, err := dealt(all, device, b.devices)
					if !yield(batch, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// batch has the states that some transitions begin with, and as labels those after each step that a prediction is carried on for.
func (b *batches) batch(chosen []int, step int) ([]*tensors.Tensor, error) {
	at := make([]dataset.Snapshot, len(chosen))
	for i, c := range chosen {
		at[i] = b.transitions[c]
	}
	var all []*tensors.Tensor
	for range b.unroll + 1 {
		next, err := b.states.Batch(at)
		if err != nil {
			return nil, err
		}
		all = append(all, next)
		for i := range at {
			at[i].Time++
		}
	}
	return all, b.augment.apply(all, b.seed, step)
}

// dealt is the part of a batch that one of several devices gets.
func dealt(all []*tensors.Tensor, device, devices int) (train.Batch, error) {
	if devices == 1 {
		return train.Batch{Inputs: all[:1], Labels: all[1:]}, nil
	}
	var parts []*tensors.Tensor
	for _, states := range all {
		dimensions := slices.Clone(states.Shape().Dimensions)
		dimensions[0] /= devices
		size := states.Size() / devices
		err := tensors.ConstFlatData(states, func(flat []float32) {
			parts = append(parts, tensors.FromFlatDataAndDimensions(flat[device*size:(device+1)*size], dimensions...))
		})
		if err != nil {
			return train.Batch{}, cause.In("trainer", err)
		}
	}
	return train.Batch{Inputs: parts[:1], Labels: parts[1:]}, nil
}

// onDevices is the data set that GoMLX's loop takes: with several devices, one that puts the parts of a batch on them.
func (b *batches) onDevices(on compute.Backend) (train.Dataset, error) {
	if b.devices == 1 {
		return b, nil
	}
	mesh, err := distributed.NewDeviceMesh([]int{b.devices}, []string{"data"})
	if err != nil {
		return nil, cause.In("trainer", err)
	}
	sharded, err := distributed.NewShardingSpec(mesh, distributed.AxisSpec{"data"})
	if err != nil {
		return nil, cause.In("trainer", err)
	}
	labels := slices.Repeat([]*distributed.ShardingSpec{sharded}, b.unroll)
	all, err := gomlxdataset.NewDistributedAccumulator(on, b, distributed.AutoSharding, labels[:1], labels, nil)
	return all, cause.In("trainer", err)
}
