package pdegym

import (
	"cmp"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Order is the sequence in which the files of a folder follow each other. It decides which trajectories are the first ones, so
// whoever splits a data set by position must record it.
type Order int

const (
	Numeric Order = iota // by number: data_0.nc, data_1.nc, data_2.nc, ..., data_10.nc; the default
	Text                 // by name as text, as PDEGym's own program puts them together: data_0.nc, data_1.nc, data_10.nc, ..., data_2.nc
)

func (o Order) String() string {
	switch o {
	case Numeric:
		return "numeric"
	case Text:
		return "text"
	}
	return fmt.Sprintf("Order(%d)", int(o))
}

// numbered matches names like data_12.nc.
var numbered = regexp.MustCompile(`^(.*?)([0-9]+)(\.(?:nc|h5|hdf5))$`)

// extensions are those of files that a folder is searched for.
var extensions = []string{".nc", ".h5", ".hdf5"}

// Parts finds the files of one family in a folder, such as PDEGym's CE-RP: those that end in .nc, .h5 or .hdf5, whatever else lies
// beside them. Either there is one such file, or all are named alike up to a number, and the numbers run from 0 without a gap: it
// is an error if one is missing, for every later trajectory would move. That the last ones are missing cannot be noticed.
func Parts(dir string, order Order) ([]string, error) {
	if order != Numeric && order != Text {
		return nil, fmt.Errorf("pdegym: %v is no order of files; use Numeric or Text", order)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("pdegym: the folder cannot be read: %w; name a folder of PDEGym's files, or the files", err)
	}
	type part struct {
		name   string
		number *big.Int
	}
	var parts []part
	var names []string
	var alike [2]string // what comes before the number, and after it
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") || !slices.Contains(extensions, filepath.Ext(name)) {
			continue
		}
		names = append(names, name)
		found := numbered.FindStringSubmatch(name)
		if found == nil {
			continue
		}
		these := [2]string{found[1], found[3]}
		if len(parts) > 0 && these != alike {
			return nil, fmt.Errorf("pdegym: %s holds %s and %s, which are not parts of one family; name the files instead of the folder",
				dir, parts[0].name, name)
		}
		alike = these
		number, _ := new(big.Int).SetString(found[2], 10)
		parts = append(parts, part{name, number})
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("pdegym: %s holds no file that ends in .nc, .h5 or .hdf5; download PDEGym's files into it, or name another folder", dir)
	case len(names) == 1 && len(parts) == 0:
		return []string{filepath.Join(dir, names[0])}, nil
	case len(parts) != len(names):
		return nil, fmt.Errorf("pdegym: %s holds %s, and not all are numbered like data_0.nc; name the files in their order instead of the folder",
			dir, strings.Join(names, ", "))
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(a.number.Cmp(b.number), strings.Compare(a.name, b.name)) })
	for k, p := range parts {
		switch want := big.NewInt(int64(k)); p.number.Cmp(want) {
		case -1:
			return nil, fmt.Errorf("pdegym: %s holds %s and %s, two files of one number; move one of them away", dir, parts[k-1].name, p.name)
		case 1:
			return nil, fmt.Errorf("pdegym: %s holds %s but not %s%d%s before it; download it, or name the files instead of the folder to do without",
				dir, p.name, alike[0], k, alike[1])
		}
	}
	if order == Text {
		slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.name, b.name) })
	}
	paths := make([]string, len(parts))
	for k, p := range parts {
		paths[k] = filepath.Join(dir, p.name)
	}
	return paths, nil
}
