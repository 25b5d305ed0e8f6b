// Package hooks attaches an auditor to any GoMLX train.Loop: it audits on a schedule, streams the records to a sink,
// and ends the training cleanly when a stop rule fires.
//
// To an existing loop it adds:
//
//	hook, err := hooks.New(auditor).
//		WithSink(sink).
//		WithSchedule(hooks.EveryEpochs(1)).
//		Attach(loop)
//	if err != nil {
//		return err
//	}
//	defer hook.Close()
//	_, err = loop.RunEpochs(hook.Dataset(trainDS), 10) // was: loop.RunEpochs(trainDS, 10)
//
// Without a schedule it audits as often as DefaultBudget allows. Besides there is always an audit when training ends, unless the
// last step was audited already.
//
// Within a step audits run at priority 50 and the training is stopped at priority 200, so that a checkpoint hook at
// priority 100 still saves the step that was audited.
//
// Nothing here changes the training: its weights, optimizer and random state are bit for bit those of a run without the
// hook, and its dataset is read in the same order and no earlier. Only WithBestCheckpoint, at the end of a run that a rule has
// stopped, takes the model back to an earlier step.
package hooks
