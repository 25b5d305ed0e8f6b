package view

// Figure is a grid of panels with one legend.
type Figure struct {
	Name    string // of its file, without suffix
	Title   string
	Caption []string // sentences
	Legend  []Entry
	Panels  []Panel
	Columns int // of panels in a file; 0 for two
}

// Entry of a legend: a line with a glyph, or a filled box.
type Entry struct {
	Text   string
	Style  Style
	Filled bool
}

// Style is how the marks of a series look. What a colour, a glyph or a pattern of dashes is, a drawing decides; there are as many as are asked
// for, from 0 on.
type Style struct {
	Color, Glyph, Dashes int
}

// Panel is a plot.
type Panel struct {
	Title string
	X, Y  Axis
	Marks []Mark // the first lies below the others
}

// Axis of a panel.
type Axis struct {
	Label     string
	Low, High float64
	Log       bool
	Names     []string // of 0, 1, 2, ...: there are names in the place of numbers
}

// Mark is what a panel shows: a Box, Line, Band, Bars, Curve, Level, Rule, Point, Cells, Picture or Scale.
type Mark interface{ mark() }

type (
	// Box shows samples as box, median, whiskers and, where few, dots; a bounded sample has a thin line through its dot.
	Box struct {
		At, Width float64 // on the horizontal axis
		Samples   []Sample
		Style     Style
	}

	// Line joins the medians of samples.
	Line struct {
		At            []float64
		Of            []Summary
		Style         Style
		Whiskers      bool // from the first to the third quartile
		Place, Places int  // of its upright lines among those of the panel's lines, which keep out of each other's way
	}

	// Band is the area of a Line from the first to the third quartile.
	Band Line

	// Bars are the bounds of a Line's medians.
	Bars Line

	// Curve joins values; on a logarithmic axis, those above 0.
	Curve struct {
		At, Values []float64
		Style      Style
	}

	// Level is a thin line across the panel.
	Level struct{ Value float64 }

	// Rule is a thin upright line at a time, with a word.
	Rule struct {
		At    float64
		Text  string
		Style Style
	}

	// Point is a glyph with a word beside it.
	Point struct {
		X, Y  float64
		Text  string
		Style Style
	}

	// Cells are a table of coloured squares at 0, 1, 2, ... of both axes, the first row lowest. NaN is no cell.
	Cells struct {
		Values    [][]float64 // [row][column]
		Low, High float64     // where the colour is strongest; below 0 it is another
		Log       bool        // the strength of the colour goes with the logarithm
	}

	// Picture is a field in a square at 0, 1, 2, ... of both axes, the first row lowest. NaN is no cell.
	Picture struct {
		X, Y   float64
		Values [][]float64 // above and below 0
		Reach  float64     // the value whose colour is the strongest
	}

	// Scale is a bar of the colours of pictures, as high as one, with what they stand for.
	Scale struct {
		X, Y   float64
		Middle string  // beside the colour of 0
		Reach  float64 // as that of the pictures
	}
)

func (Box) mark()     {}
func (Line) mark()    {}
func (Band) mark()    {}
func (Bars) mark()    {}
func (Curve) mark()   {}
func (Level) mark()   {}
func (Rule) mark()    {}
func (Point) mark()   {}
func (Cells) mark()   {}
func (Picture) mark() {}
func (Scale) mark()   {}

// modelLegend has an entry for each series.
func (d *data) modelLegend(lines bool) (legend []Entry) {
	for _, s := range d.series {
		legend = append(legend, Entry{Text: s.label, Style: s.style, Filled: !lines})
	}
	return legend
}
