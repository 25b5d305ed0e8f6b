package backend

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/gomlx/compute"

	"github.com/symaudit/symaudit/internal/sums"
)

// withOwnSums is open with XLA's flags set, for as long as it takes, so that the plugin at path computes sums itself, unless they say already
// who shall or are in a file. A process's plugin reads its flags once. One that does not know the flag would end the process.
func withOwnSums(path string, open func() (compute.Backend, error)) func() (compute.Backend, error) {
	return func() (compute.Backend, error) {
		flags, were := os.LookupEnv(sums.FlagsEnv)
		inFile := flags != "" && !strings.HasPrefix(strings.TrimSpace(flags), "-")
		known, err := contains(path, sums.Flag)
		if err != nil || !known || inFile || strings.Contains(flags, sums.Flag) {
			return open()
		}
		if err := os.Setenv(sums.FlagsEnv, strings.TrimSpace(flags+" "+sums.Own)); err != nil {
			return nil, err
		}
		opened, err := open()
		if were {
			return opened, errors.Join(err, os.Setenv(sums.FlagsEnv, flags))
		}
		return opened, errors.Join(err, os.Unsetenv(sums.FlagsEnv))
	}
}

// contains says whether a file has a word in it.
func contains(path, word string) (found bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	buffer, kept := make([]byte, 1<<20), 0
	for {
		n, err := file.Read(buffer[kept:])
		if bytes.Contains(buffer[:kept+n], []byte(word)) {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		last := max(0, kept+n-len(word)) // the word may go on in the next piece
		kept = copy(buffer, buffer[last:kept+n])
	}
}
