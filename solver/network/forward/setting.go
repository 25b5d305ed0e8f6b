package forward

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/gomlx/gomlx/core/graph"
)

// source returns the operation that computes a node and which of its outputs the node is. Nodes of operations with
// several outputs are split from them by nodes of their own.
func source(node *graph.Node) (op *graph.Node, index int) {
	if node.Type() != graph.NodeTypeSplitNode {
		return node, 0
	}
	index, err := strconv.Atoi(setting(node, "index"))
	if err != nil {
		unsupported(node, fmt.Sprintf("GoMLX prints its index as %q", setting(node, "index")))
	}
	return node.Inputs()[0], index
}

// setting reads a setting of a node that GoMLX shows in Node.String and nowhere else, such as "strides=[1 2]", or
// "Activation:gelu" in a structure.
func setting(node *graph.Node, name string) string {
	text := node.String()
	for _, separator := range []string{"=", ":"} {
		for _, before := range []string{"(", " ", "{"} {
			if _, after, found := strings.Cut(text, before+name+separator); found {
				return firstValue(after)
			}
		}
	}
	unsupported(node, fmt.Sprintf("GoMLX no longer prints its %s", name))
	return ""
}

// firstValue is text up to the comma, space or bracket that ends it.
func firstValue(text string) string {
	depth := 0
	for i, r := range text {
		switch {
		case strings.ContainsRune("[({", r):
			depth++
		case depth == 0 && strings.ContainsRune(",) }", r):
			return text[:i]
		case strings.ContainsRune("])}", r):
			depth--
		}
	}
	return text
}

// integers parses "3", "[1 2]" and "[[1 2] [3 4]]", flattened; "[]" is nil.
func integers(node *graph.Node, name string) []int {
	var values []int
	text := setting(node, name)
	for _, field := range strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(text)) {
		value, err := strconv.Atoi(field)
		if err != nil {
			unsupported(node, fmt.Sprintf("GoMLX prints its %s as %q", name, text))
		}
		values = append(values, value)
	}
	return values
}

// number parses a float setting as GoMLX holds it, in 32 or 64 bits.
func number(node *graph.Node, name string, bits int) float64 {
	value, err := strconv.ParseFloat(setting(node, name), bits)
	if err != nil {
		unsupported(node, fmt.Sprintf("GoMLX prints its %s as %q", name, setting(node, name)))
	}
	return value
}

// optional lists, in the order of the node's inputs after the first count, whether each named one is there.
func optional(node *graph.Node, inputs []*graph.Node, count int, names ...string) []*graph.Node {
	found := make([]*graph.Node, len(names))
	for i, name := range names {
		if setting(node, name) != "nil" {
			found[i] = inputs[count]
			count++
		}
	}
	return found
}
