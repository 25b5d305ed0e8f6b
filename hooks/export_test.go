package hooks

import "time"

// WithClock sets the clock, so that no test has to wait.
func (b *Builder) WithClock(now func() time.Time) *Builder { b.now = now; return b }
