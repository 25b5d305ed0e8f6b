package hooks

import (
	"iter"

	"github.com/gomlx/gomlx/ml/train"
)

// Dataset wraps a training dataset for Loop.RunEpochs, which ends cleanly only when its dataset does, and which says
// nothing when an epoch ends. Hand the result itself to RunEpochs; wrappers of other kinds go inside:
//
//	loop.RunEpochs(hook.Dataset(dataset.Buffer(trainDS)), 10)
//
// Batches, errors and their order are those of ds. To know that an epoch has ended the hook asks for the next batch
// after a step, among that step's other hooks; never before the step. Under RunSteps everything is passed through.
func (h *Hook) Dataset(ds train.Dataset) train.Dataset {
	wrapped := &dataset{inner: ds, hook: h}
	if distributed, ok := ds.(train.DistributedDataset); ok {
		return &distributedDataset{DistributedDataset: distributed, dataset: wrapped}
	}
	return wrapped
}

// dataset can be told to yield nothing more, and asked whether anything follows.
type dataset struct {
	inner   train.Dataset
	hook    *Hook
	current *iteration // the innermost one under way
	stopped bool       // the loop gets nothing more; whoever else iterates, to evaluate perhaps, still does
}

// wrappedHere returns the wrapper that ds is, or nil if this hook made none such.
func (h *Hook) wrappedHere(ds train.Dataset) *dataset {
	if wrapped := wrapper(ds); wrapped != nil && wrapped.hook == h {
		return wrapped
	}
	return nil
}

// wrapper is the wrapper that ds is, whichever hook made it, or nil.
func wrapper(ds train.Dataset) *dataset {
	if distributed, ok := ds.(*distributedDataset); ok {
		return distributed.dataset
	}
	wrapped, _ := ds.(*dataset)
	return wrapped
}

// Name implements train.Dataset.
func (d *dataset) Name() string { return d.inner.Name() }

// ShortName implements train.HasShortName.
func (d *dataset) ShortName() string {
	if short, ok := d.inner.(train.HasShortName); ok {
		return short.ShortName()
	}
	return d.Name()[:min(3, len(d.Name()))]
}

// Iter implements train.Dataset.
func (d *dataset) Iter() iter.Seq2[train.Batch, error] {
	return func(yield func(train.Batch, error) bool) {
		// An iteration within another is a hook's own, within a step of the loop.
		outer := d.current
		stopped := func() bool { return d.stopped && outer == nil }
		if stopped() {
			return
		}
		it := newIteration(d.inner)
		d.current = it
		defer func() {
			d.current = outer
			it.close()
		}()
		for !stopped() {
			batch, err, ok := it.next()
			if !ok || !yield(batch, err) {
				return
			}
		}
	}
}

// exhausted reports whether the batch that the loop got last was the last of its epoch.
func (d *dataset) exhausted() bool { return d.current != nil && d.current.exhausted() }

// iteration is one pass over a dataset, able to look one batch ahead.
type iteration struct {
	pull  func() (train.Batch, error, bool)
	stop  func()
	ahead *item // pulled and not yet handed out
}

type item struct {
	batch train.Batch
	err   error
	ok    bool
}

func newIteration(ds train.Dataset) *iteration {
	it := &iteration{}
	it.pull, it.stop = iter.Pull2(ds.Iter())
	return it
}

func (it *iteration) next() (train.Batch, error, bool) {
	if ahead := it.ahead; ahead != nil {
		it.ahead = nil
		return ahead.batch, ahead.err, ahead.ok
	}
	return it.pull()
}

func (it *iteration) exhausted() bool {
	if it.ahead == nil {
		batch, err, ok := it.pull()
		it.ahead = &item{batch, err, ok}
	}
	return !it.ahead.ok
}

// close frees the batch that nobody will ask for: whoever pulls a batch owns it.
func (it *iteration) close() {
	if it.ahead != nil && it.ahead.ok && it.ahead.err == nil {
		_ = it.ahead.batch.Finalize()
	}
	it.stop()
}

// distributedDataset keeps the distributed side of a dataset reachable. Only RunSteps uses it, which needs no help to
// stop.
type distributedDataset struct {
	train.DistributedDataset
	dataset *dataset
}

// Iter implements train.Dataset.
func (d *distributedDataset) Iter() iter.Seq2[train.Batch, error] { return d.dataset.Iter() }
