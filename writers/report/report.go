// Package report draws a run: figures/*.svg and report.html, one page that needs nothing but a browser.
package report

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/symaudit/symaudit/writers"
)

// Write reads the run in dir, draws its figures into dir/figures and a page with them into dir/report.html, and returns
// the page's path. What is there of an earlier report is replaced. A run that has no row yet is an error.
func Write(dir string) (path string, err error) {
	contents, err := writers.Read(dir)
	if err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	run := newRun(contents)
	if len(run.series) == 0 {
		return "", fmt.Errorf("report: %s holds no rows yet; wait for its first audit", dir)
	}
	folder := filepath.Join(dir, "figures")
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return "", explain(folder, err)
	}
	var drawn []drawing
	for _, figure := range run.figures() {
		svg, err := figure.svg()
		if err != nil {
			return "", err
		}
		if err := replace(filepath.Join(folder, figure.name+".svg"), []byte(standalone(svg))); err != nil {
			return "", err
		}
		drawn = append(drawn, newDrawing(figure, svg))
	}
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, newPage(dir, run, drawn)); err != nil {
		return "", fmt.Errorf("report: cannot write the page: %w", err)
	}
	path = filepath.Join(dir, "report.html")
	return path, replace(path, page.Bytes())
}

// replace never leaves half a file under the name.
func replace(path string, content []byte) error {
	hidden := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".inprogress")
	if err := os.WriteFile(hidden, content, 0o666); err != nil {
		return explain(path, errors.Join(err, os.RemoveAll(hidden)))
	}
	if err := os.Rename(hidden, path); err != nil {
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
	}
	return fmt.Errorf("report: cannot write %s: %w%s", path, err, remedy)
}
