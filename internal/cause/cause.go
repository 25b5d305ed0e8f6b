// Package cause finds what an error comes from, and says it in the words of whoever reads it.
//
// Every package of this module begins its errors with its name. Passed on from layer to layer, names pile up; the layer that a
// user holds puts its own in their place with In, and a program, which has no packages, shows an error as Plain.
package cause

import (
	"fmt"
	"regexp"
)

// notImplemented matches what GoMLX says of an operation that a backend lacks.
var notImplemented = regexp.MustCompile(`op "([^"]+)" not implemented in the "([^"]+)" backend`)

// Of is the innermost error that the Cause methods of GoMLX's errors lead to: GoMLX's own words name programs and datasets that a
// user knows nothing of, and call every failure of a training one to read its dataset.
func Of(err error) error {
	if found := notImplemented.FindStringSubmatch(fmt.Sprint(err)); found != nil {
		words := fmt.Sprintf("GoMLX's backend %s does not implement the operation %s", found[2], found[1])
		if found[2] == "go" {
			words += "; use XLA"
		}
		return Say(words, err)
	}
	for {
		wrapped, ok := err.(interface{ Cause() error })
		if !ok {
			return err
		}
		err = wrapped.Cause()
	}
}

// packages matches their names where a message or a part of it begins.
var packages = regexp.MustCompile(`(^|[:,;] |\n)(?:(?:audit|backend|dataset|euler|forward|hooks|models|network|orbits|pdegym|report|solver|trainer|writers): )+`)

// Plain is an error in words without the names of packages.
func Plain(err error) string { return packages.ReplaceAllString(err.Error(), "$1") }

// In is err as the package called name says it; nil if err is.
func In(name string, err error) error {
	if err == nil {
		return nil
	}
	return Say(name+": "+Plain(err), err)
}

// Say is err in other words: errors.Is and errors.As find in it what they find in err.
func Say(words string, err error) error { return &said{words, err} }

type said struct {
	words string
	error
}

func (s *said) Error() string { return s.words }

func (s *said) Unwrap() error { return s.error }
