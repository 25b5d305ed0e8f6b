package hooks

// epochClock counts epochs by the batches trained on since the beginning of the training.
type epochClock struct {
	length   int // batches in an epoch, as declared or as last observed; 0 while unknown
	boundary int // batches at which the current epoch began
	epochs   int // epochs done by then
}

// start sets the clock for a run that begins after so many batches. RunEpochs begins its dataset anew and so its epoch, too.
func (c *epochClock) start(batches int, newEpoch bool) {
	if c.length > 0 {
		whole := (batches - c.boundary) / c.length
		c.epochs += whole
		c.boundary += whole * c.length
	}
	if newEpoch || c.length == 0 {
		c.boundary = batches
	}
}

// at is the epochs done after so many batches, in the current epoch: a fraction, or only the whole ones while the length of an
// epoch is unknown.
func (c *epochClock) at(batches int) float64 {
	if c.length == 0 {
		return float64(c.epochs)
	}
	return float64(c.epochs) + float64(batches-c.boundary)/float64(c.length)
}

// observe learns the length of an epoch from the batches at which the first one ended. Of the epochs before a resume
// nothing is known but their batches, so they are taken to be as long.
func (c *epochClock) observe(batches int) {
	if c.length == 0 {
		c.length = batches - c.boundary
		c.epochs = c.boundary / c.length
	}
}

// advance begins the next epoch.
func (c *epochClock) advance(batches int) {
	c.length = batches - c.boundary
	c.boundary = batches
	c.epochs++
}
