// Package report draws runs: figures/*.svg and report.html, one page that needs nothing but a browser.
package report

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/writers"
	"github.com/symaudit/symaudit/writers/report/draw"
	"github.com/symaudit/symaudit/writers/report/view"
)

// Write reads the run in dir, draws its figures into dir/figures and a page with them into dir/report.html, and returns
// the page's path. What is there of an earlier report is replaced. A run that has no row yet is an error.
//
// warnings are sentences on what may mislead whoever reads the run, such as errors that are not finite; the page shows them too.
func Write(dir string) (path string, warnings []string, err error) {
	return write(dir, false, dir)
}

// Follow is Write for a run that goes on: a browser loads the page again every ten seconds.
func Follow(dir string) (path string, warnings []string, err error) {
	return write(dir, true, dir)
}

// Compare is Write for several runs side by side: models, seeds, settings. The figures and the page go into a folder, which is made if
// need be, and the runs stay as they are. It is an error if one of the runs has no row yet.
func Compare(into string, dirs ...string) (path string, warnings []string, err error) {
	return write(into, false, dirs...)
}

func write(into string, live bool, dirs ...string) (path string, warnings []string, err error) {
	var runs []view.Run
	for _, dir := range dirs {
		contents, err := writers.ReadLatest(dir)
		if err != nil {
			return "", nil, fmt.Errorf("report: %w", err)
		}
		if contents.Info.Kind == writers.KindShard {
			return "", nil, fmt.Errorf("report: %s holds shard %s of an audit, which has no coherence yet; put the shards together with symaudit merge", dir, contents.Info.Shard)
		}
		if len(contents.Records.Moments()) == 0 {
			return "", nil, fmt.Errorf("report: %s holds no rows yet; wait for its first audit", dir)
		}
		for _, other := range runs {
			if other.Info.RunID == contents.Info.RunID {
				return "", nil, fmt.Errorf("report: %s and %s are the same run, %s; name each once", other.Dir, dir, contents.Info.RunID)
			}
		}
		runs = append(runs, view.Run{Dir: dir, Contents: contents})
	}
	if len(runs) == 0 {
		return "", nil, errors.New("report: no run is named")
	}
	shown := view.Of(runs...)
	if shown == nil {
		return "", nil, fmt.Errorf("report: %s holds no rows of a training or an audit; wait for its first audit", strings.Join(dirs, ", "))
	}
	if err := os.MkdirAll(filepath.Join(into, "figures"), 0o777); err != nil {
		return "", nil, explain(into, err)
	}
	p := page{View: shown, Live: live}
	if e := shown.Explorer; e != nil {
		for i := range e.Series {
			e.Series[i].Color = draw.Color(e.Series[i].Style)
		}
		p.Scripts = []template.JS{template.JS(d3), template.JS(plot), template.JS(explore)} //nolint:gosec // embedded
	}
	for _, figure := range shown.Figures {
		file, err := draw.Figure(figure)
		if err != nil {
			return "", nil, err
		}
		if err := replace(filepath.Join(into, "figures", figure.Name+".svg"), file); err != nil {
			return "", nil, err
		}
		drawn, err := newDrawing(figure)
		if err != nil {
			return "", nil, err
		}
		p.Drawings = append(p.Drawings, drawn)
	}
	var content bytes.Buffer
	if err := pageTemplate.Execute(&content, p); err != nil {
		return "", nil, fmt.Errorf("report: cannot write the page: %w", err)
	}
	path = filepath.Join(into, "report.html")
	if err := replace(path, content.Bytes()); err != nil {
		return "", nil, err
	}
	return path, shown.Warnings, nil
}

// d3 and Plot draw what a reader picks; both are under the ISC licence (assets/LICENSE-d3, assets/LICENSE-plot).
var (
	//go:embed page.html
	pageText string
	//go:embed assets/d3.min.js
	d3 string
	//go:embed assets/plot.umd.min.js
	plot string
	//go:embed assets/explore.js
	explore string
)

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is what page.html shows.
type page struct {
	*view.View
	Live     bool
	Drawings []drawing // of the view's figures
	Scripts  []template.JS
}

type drawing struct {
	view.Figure
	Signs  []sign
	Panels []template.HTML
}

// sign is an entry of a legend.
type sign struct {
	Mark template.HTML
	Text string
}

func newDrawing(f view.Figure) (drawing, error) {
	d := drawing{Figure: f}
	panels, err := draw.Panels(f)
	if err != nil {
		return d, err
	}
	for _, panel := range panels {
		d.Panels = append(d.Panels, template.HTML(panel)) //nolint:gosec // our own drawing; its text is escaped
	}
	for _, entry := range f.Legend {
		mark, err := draw.Swatch(entry)
		if err != nil {
			return d, err
		}
		d.Signs = append(d.Signs, sign{template.HTML(mark), entry.Text}) //nolint:gosec // the same
	}
	return d, nil
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
