package writers

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// deepest is how many folders below one another Find looks into.
const deepest = 8

// Find returns the run directories in dir, itself included, in the order of their paths: those with a description, and those with parts
// that have lost it. It looks into folders up to eight deep, but not into hidden ones, links or runs. An error says which folders
// could not be looked into; the runs in others are returned nevertheless.
func Find(dir string) (runs []string, err error) { return find(filepath.Clean(dir), deepest) }

func find(dir string, depth int) (runs []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, explain("list", dir, err)
	}
	if isRun(dir, entries) {
		return []string{dir}, nil
	}
	for _, entry := range entries {
		if !entry.IsDir() || strings.HasPrefix(entry.Name(), ".") || depth == 0 {
			continue
		}
		below, failed := find(filepath.Join(dir, entry.Name()), depth-1)
		runs, err = append(runs, below...), errors.Join(err, failed)
	}
	return runs, err
}

func isRun(dir string, entries []os.DirEntry) bool {
	return slices.ContainsFunc(entries, func(entry os.DirEntry) bool {
		if isInfoName(entry.Name()) {
			return true
		}
		if !entry.IsDir() || !slices.Contains(tableNames(), entry.Name()) {
			return false
		}
		visible, _, err := directory{path: dir}.list(entry.Name())
		return err == nil && len(visible) > 0
	})
}
