// Command solver-audit audits the Euler solver as if it were a model: how well it keeps the symmetries on the probe states of a data set, on the grid on which
// they are stored. No model of these data can be asked for more than that. A solver has no weights, so there is no influence.
//
//	go run ./scripts/solver-audit runs/experiments/data runs/experiments/solver
//
// The states are averages of a solution on a finer grid, so the target error says what the coarser grid costs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
	"github.com/symaudit/symaudit/trainer/euler"
	"github.com/symaudit/symaudit/writers"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "solver-audit: %v\n", err)
		os.Exit(1)
	}
}

func run() (err error) {
	if len(os.Args) != 3 {
		return errors.New("usage: solver-audit <data directory> <run directory>")
	}
	set, err := dataset.Open(os.Args[1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	choice, err := backend.Open(backend.Auto)
	if err != nil {
		return err
	}
	solver := euler.Default()
	solver.Interval = set.Interval
	step := func(_ *model.Scope, x *graph.Node) *graph.Node { return solver.Advance(x) }
	builder := audit.New(weightless{choice.Backend, model.NewStore()}, step, nil).WithField(set.Field).WithForwardOnly()
	vector := func(x, y float64) orbits.Vector { return orbits.Vector{X: x, Y: y} }
	cells := float64(set.Grid[len(set.Grid)-1])
	oneCell := 1 / cells / set.Interval // the velocity of a cell in a step
	for _, of := range []struct {
		group orbits.Group
		time  int // of the state: as a training's audits have it
	}{
		{orbits.D4(), 0}, {orbits.Translations(6), set.Snapshots - 3},
		{orbits.Boosts(set.Interval*cells, vector(oneCell, 0), vector(-oneCell, oneCell)), 0}, {orbits.Scalings(0.5, 2), 0},
	} {
		probes, err := probes(set, of.time)
		if err != nil {
			return err
		}
		builder.WithGroup(of.group, probes)
	}
	auditor, err := builder.Done()
	if err != nil {
		return err
	}
	defer auditor.Close()
	sink, err := writers.Parquet(os.Args[2]).WithInfo(writers.Info{Kind: writers.KindAudit, Command: os.Args, Backend: choice.Config, BackendReason: choice.Reason, DataHash: set.Hash()}).Done()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	if err := sink.Enter(auditor, "solver", 0, 0, auditor.Settings()); err != nil {
		return err
	}
	records, err := auditor.Audit(context.Background(), audit.Moment{Model: "solver"})
	if err != nil {
		return err
	}
	return sink.Write(records)
}

const batches = 2 // of states, of one of each family

// probes are the states of the first held-out trajectories at a time, one of each family in each batch, and those after them.
func probes(set *dataset.Set, time int) (probes audit.Probes, err error) {
	var before, after []dataset.Snapshot
	for _, split := range set.Splits {
		if split.Name != dataset.Test {
			continue
		}
		if split.Count < batches {
			return probes, fmt.Errorf("the split %s has %d trajectories of each family, and %d are audited; give the data at least so many data.probes", split.Name, split.Count, batches)
		}
		for i := range batches {
			for family := range set.Families {
				at := dataset.Snapshot{Family: family, Trajectory: split.First + i, Time: time}
				before = append(before, at)
				at.Time++
				after = append(after, at)
				probes.Samples = append(probes.Samples, audit.Sample{Class: set.Families[family].Label, Trajectory: int64(split.First + i), TimeIndex: int32(time)})
			}
		}
	}
	if probes.Inputs, err = set.Batch(before); err != nil {
		return probes, err
	}
	probes.Targets, err = set.Batch(after)
	return probes, err
}

// weightless is what has nothing to be trained.
type weightless struct {
	backend compute.Backend
	store   *model.Store
}

func (w weightless) Backend() compute.Backend { return w.backend }
func (w weightless) Store() *model.Store      { return w.store }
