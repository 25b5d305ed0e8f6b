// Package cause finds the error that GoMLX has wrapped: its own words name programs and datasets that a user knows nothing of, and
// call every failure of a training one to read its dataset.
package cause

// Of is the innermost error that the Cause methods of GoMLX's errors lead to.
func Of(err error) error {
	for {
		wrapped, ok := err.(interface{ Cause() error })
		if !ok {
			return err
		}
		err = wrapped.Cause()
	}
}
