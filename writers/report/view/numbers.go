package view

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Number writes v for people, with up to three digits: 0.0123, 1.2×10⁻⁵.
func Number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return Minus(strings.Replace(strconv.FormatFloat(v, 'g', -1, 64), "Inf", "∞", 1))
	case v == 0:
		return "0"
	case math.Abs(v) >= 1e-3 && math.Abs(v) < 1e4:
		return Minus(strconv.FormatFloat(roundedTo(v, 3), 'f', -1, 64))
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(roundedTo(v, 3), 'e', -1, 64), "e")
	power, err := strconv.Atoi(exponent)
	if err != nil {
		return Minus(mantissa)
	}
	raised := "10" + superscripts.Replace(strconv.Itoa(power))
	if mantissa == "1" {
		return raised
	}
	return Minus(mantissa) + "×" + raised
}

var superscripts = strings.NewReplacer("-", "⁻", "0", "⁰", "1", "¹", "2", "²", "3", "³", "4", "⁴", "5", "⁵", "6", "⁶",
	"7", "⁷", "8", "⁸", "9", "⁹")

// Minus writes the sign of a number as its own character, not as a hyphen.
func Minus(number string) string { return strings.Replace(number, "-", "−", 1) }

// aligned is Number with three digits kept, so that a column of them reads well.
func aligned(v float64) string {
	if magnitude := math.Abs(v); magnitude >= 1e-3 && magnitude < 1e3 {
		v = roundedTo(v, 3)
		return Minus(strconv.FormatFloat(v, 'f', 2-int(math.Floor(math.Log10(math.Abs(v)))), 64))
	}
	return Number(v)
}

func roundedTo(v float64, digits int) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', digits, 64), 64)
	if err != nil {
		return v
	}
	return rounded
}

// roundedUp keeps a rounded bound a bound.
func roundedUp(v float64, digits int) float64 {
	rounded := roundedTo(v, digits)
	if !(rounded < v) || math.IsInf(v, 0) {
		return rounded
	}
	unit := math.Pow(10, math.Floor(math.Log10(v))-float64(digits-1))
	return roundedTo(rounded+unit, digits)
}

// roundedDown does the same of a lower bound.
func roundedDown(v float64, digits int) float64 {
	rounded := roundedTo(v, digits)
	if !(rounded > v) || math.IsInf(v, 0) {
		return rounded
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(rounded)))-float64(digits-1))
	return roundedTo(rounded-unit, digits)
}

// fixed writes a cosine, – where there is none.
func fixed(v *float64) string {
	if v == nil {
		return "–"
	}
	return Minus(fmt.Sprintf("%.2f", *v))
}

// percent is a share, – where there is none.
func percent(share *float64) string {
	if share == nil {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100**share)
}

// count writes a whole number with commas between thousands.
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func outOf(n, all int) string { return fmt.Sprintf("%d of %d", n, all) }

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// listed joins words: "a", "a and b", "a, b and c".
func listed(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
	return strings.Join(words, "")
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// drawable values have a place on a logarithmic axis.
func drawable(v float64) bool { return v > 0 && !math.IsInf(v, 0) }
