// Package report draws a run: figures/*.svg and report.html, one page that needs nothing but a browser.
package report

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/writers"
)

// Write reads the run in dir, draws its figures into dir/figures and a page with them into dir/report.html, and returns
// the page's path. What is there of an earlier report is replaced. A run that has no row yet is an error.
//
// warnings are sentences on what may mislead whoever reads the run, such as errors that are not finite; the page shows them too.
func Write(dir string) (path string, warnings []string, err error) {
	contents, err := writers.Read(dir)
	if err != nil {
		return "", nil, fmt.Errorf("report: %w", err)
	}
	run := newRun(contents)
	if len(run.series) == 0 {
		return "", nil, fmt.Errorf("report: %s holds no rows yet; wait for its first audit", dir)
	}
	warnings = append(partitions(absolute(dir)), run.notFinite()...)
	drawn, err := run.draw(filepath.Join(dir, "figures"))
	if err != nil {
		return "", nil, err
	}
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, newPage(dir, run, drawn, warnings)); err != nil {
		return "", nil, fmt.Errorf("report: cannot write the page: %w", err)
	}
	path = filepath.Join(dir, "report.html")
	if err := replace(path, page.Bytes()); err != nil {
		return "", nil, err
	}
	return path, warnings, nil
}

// draw writes the figures into the folder.
func (r *run) draw(folder string) (drawn []drawing, err error) {
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, explain(folder, err)
	}
	for _, figure := range r.figures() {
		svg, err := figure.svg()
		if err != nil {
			return nil, err
		}
		if err := replace(filepath.Join(folder, figure.name+".svg"), []byte(standalone(svg))); err != nil {
			return nil, err
		}
		drawn = append(drawn, newDrawing(figure, svg))
	}
	return drawn, nil
}

// partitions warns of folders that programs take for a column with one value.
func partitions(dir string) (warnings []string) {
	for _, folder := range strings.Split(filepath.ToSlash(dir), "/") {
		if name, _, found := strings.Cut(folder, "="); found {
			warnings = append(warnings, fmt.Sprintf("The run lies below a folder %q: DuckDB takes that for a column %q and adds it to every table, in the place of one of that name. Rename the folder, or read with hive_partitioning = false.",
				folder, name))
		}
	}
	return warnings
}

// replace never leaves half a file under the name.
func replace(path string, content []byte) error {
	if err := atomicfile.Write(atomicfile.OS{}, path, content); err != nil {
		return explain(path, err)
	}
	return nil
}

func explain(path string, err error) error {
	remedy := ""
	switch {
	case errors.Is(err, syscall.ENOSPC):
		remedy = "; free space there"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		remedy = "; make it writable, or report on a copy of the run"
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		remedy = "; something else has its name, move that away"
	}
	var ofPath *fs.PathError
	var ofLink *os.LinkError
	switch {
	case errors.As(err, &ofPath):
		err = ofPath.Err
	case errors.As(err, &ofLink):
		err = ofLink.Err
	}
	return fmt.Errorf("report: cannot write %s: %w%s", path, err, remedy)
}
