package audit

import (
	"github.com/gomlx/compute"

	"github.com/symaudit/symaudit/internal/cause"
)

// backendFor returns the backend that audits run on: the training's, or in the place of GoMLX's Go backend one of the same kind that
// executes an operation at a time. With compute v0.1.4 convolutions, and large matrix products, that start together wait for
// one another's workers and never end; a metric product has several times as many of them side by side as a training step.
// An auditor holds copies of all that it takes from the training, so nothing has to be moved.
func backendFor(training compute.Backend) (backend compute.Backend, free func(), err error) {
	if training.String() != "go" {
		return training, func() {}, nil
	}
	backend, err = compute.NewWithConfig("go:ops_sequential")
	if err != nil {
		return nil, nil, cause.In("audit", err)
	}
	return backend, backend.Finalize, nil
}
