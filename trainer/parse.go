package trainer

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/symaudit/symaudit/trainer/euler"
)

// ParseConfig reads YAML over the defaults. A list replaces the default's. An unknown key is an error that names its
// line and the nearest key there is, and so is a key without a value or with one of another kind. The result is not yet
// validated.
func ParseConfig(source []byte) (Config, error) {
	config := Default()
	file, err := parser.ParseBytes(source, 0)
	if err != nil {
		return Config{}, located(err)
	}
	documents := slices.DeleteFunc(file.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil || d.Body.Type() == ast.NullType })
	switch len(documents) {
	case 0: // changes nothing
		return config, nil
	case 1:
	default:
		return Config{}, fmt.Errorf("trainer: line %d: a second document begins; a configuration is one, without ---", documents[1].Body.GetToken().Position.Line)
	}
	check := checker{}
	ast.Walk(check, documents[0].Body)
	if err := check.value(documents[0].Body, reflect.TypeFor[Config](), ""); err != nil {
		return Config{}, err
	}
	err = yaml.NewDecoder(bytes.NewReader(source), yaml.Strict()).Decode(&config)
	if err == nil && config.Data.Directory != "" { // these data say themselves what they are
		config = Default()
		config.Data.Euler = euler.Config{}
		err = yaml.NewDecoder(bytes.NewReader(source), yaml.Strict()).Decode(&config)
	}
	if err == nil {
		return config, nil
	}
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		key := unknown.GetToken().Value
		line, nearest := unknown.GetToken().Position.Line, nearestKey(key)
		groups := groupsOf(reflect.TypeFor[Config](), "", key)
		mistyped := 5*levenshtein.ComputeDistance(key, nearest) <= 2*len(key)
		switch {
		case groups != nil && mistyped:
			return Config{}, fmt.Errorf("trainer: line %d: the key %q does not stand here; it belongs into %s. Or did you mean %q?", line, key, strings.Join(groups, " or "), nearest)
		case groups != nil:
			return Config{}, fmt.Errorf("trainer: line %d: the key %q does not stand here; it belongs into %s", line, key, strings.Join(groups, " or "))
		}
		return Config{}, fmt.Errorf("trainer: line %d: unknown key %q; did you mean %q?", line, key, nearest)
	}
	return Config{}, located(err)
}

// ParseGroups reads groups to audit: a list in YAML as audit.groups has it, "[{name: translations, stride: 4}]", or names with commas between them, "d4,
// reflections", where those of known have the settings that they have there.
func ParseGroups(text string, known []Group) (groups []Group, err error) {
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		config, err := ParseConfig([]byte("audit: {groups: " + text + "}"))
		return config.Audit.Groups, err
	}
	for _, name := range strings.Split(text, ",") {
		name = strings.TrimSpace(name)
		group := Group{Name: name}
		if i := slices.IndexFunc(known, func(g Group) bool { return g.Name == name }); i >= 0 {
			group = known[i]
		}
		groups = append(groups, group)
	}
	return groups, nil
}

// located is an error of the YAML library in one sentence, with the line where it knows it.
func located(err error) error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		return fmt.Errorf("trainer: this cannot be read as YAML: %w", err)
	}
	line := at.GetToken().Position.Line
	if before := definedTwice.FindStringSubmatch(at.GetMessage()); before != nil {
		return fmt.Errorf("trainer: line %d: the key %s is in line %s already; leave one out", line, before[1], before[2])
	}
	return fmt.Errorf("trainer: line %d cannot be read as YAML: %s", line, at.GetMessage())
}

var definedTwice = regexp.MustCompile(`^mapping key (".*") already defined at \[(\d+):\d+\]$`)

// checker refuses what the decoder would let through or speak of in Go's types: a key without a value would take the default, 7.5
// where a whole number belongs would become 7. It holds what anchors stand for. Unknown keys are left to the decoder.
type checker map[string]ast.Node

// Visit implements ast.Visitor: it notes the anchors.
func (c checker) Visit(node ast.Node) ast.Visitor {
	if anchor, ok := node.(*ast.AnchorNode); ok {
		c[anchor.Name.GetToken().Value] = anchor.Value
	}
	return c
}

func (c checker) value(node ast.Node, t reflect.Type, path string) error {
	if t.Kind() == reflect.Pointer {
		if node.Type() == ast.NullType {
			return nil // the same as left out
		}
		t = t.Elem()
	}
	line := node.GetToken().Position.Line
	fault := func(is string) error {
		if path == "" {
			return fmt.Errorf("trainer: line %d: the configuration is %s; it must be %s", line, is, wanted(t))
		}
		return fmt.Errorf("trainer: line %d: %s is %s; it must be %s", line, path, is, wanted(t))
	}
	switch value := node.(type) {
	case *ast.AnchorNode:
		return c.value(value.Value, t, path)
	case *ast.AliasNode:
		name := value.Value.GetToken().Value
		meant, known := c[name]
		if !known {
			return fmt.Errorf("trainer: line %d: %s is *%s, and nothing is marked &%s; write the value itself", line, path, name, name)
		}
		delete(c, name) // what holds itself is not looked for again
		defer func() { c[name] = meant }()
		return c.value(meant, t, path)
	case *ast.TagNode:
		return fault("marked " + value.Start.Value)
	case *ast.NullNode:
		if t.Kind() == reflect.Slice {
			return nil // an empty list
		}
		return fmt.Errorf("trainer: line %d: %s has no value; write one, or leave the key out to take the default", line, path)
	case *ast.MappingNode:
		if t.Kind() != reflect.Struct {
			return fault("a group of keys")
		}
		for _, entry := range value.Values {
			key := entry.Key.GetToken().Value
			for i := range t.NumField() {
				field := t.Field(i)
				if keyOf(field) != key {
					continue
				}
				if err := c.value(entry.Value, field.Type, strings.TrimPrefix(path+"."+key, ".")); err != nil {
					return err
				}
			}
		}
	case *ast.SequenceNode:
		if t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
			return fault("a list")
		}
		if n := len(value.Values); t.Kind() == reflect.Array && n != t.Len() {
			return fault(fmt.Sprintf("a list of %d", n))
		}
		for i, entry := range value.Values {
			if err := c.value(entry, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	default:
		text := node.GetToken().Value
		number, err := strconv.ParseFloat(text, 64) // 1e-6 counts as a string in YAML
		whole := t.Kind() == reflect.Int || t.Kind() == reflect.Int64
		switch {
		case whole && err == nil && math.Abs(number) >= math.MaxInt64 && !isInt64(text):
			return fmt.Errorf("trainer: line %d: %s is %s; it must be at most %d", line, path, text, int64(math.MaxInt64))
		case whole && node.Type() != ast.IntegerType && (err != nil || number != math.Trunc(number)),
			t.Kind() == reflect.Float64 && err != nil && !slices.Contains([]ast.NodeType{ast.IntegerType, ast.InfinityType, ast.NanType}, node.Type()),
			t.Kind() == reflect.Bool && node.Type() != ast.BoolType,
			!whole && t.Kind() != reflect.Float64 && t.Kind() != reflect.Bool && t.Kind() != reflect.String:
			return fault(text)
		}
	}
	return nil
}

func isInt64(text string) bool {
	_, err := strconv.ParseInt(text, 10, 64)
	return err == nil
}

// wanted says what belongs where a type is.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return wanted(t.Elem())
	case reflect.Struct:
		var own []string
		for i := range t.NumField() {
			if key := keyOf(t.Field(i)); key != "" {
				own = append(own, key)
			}
		}
		return "a group of keys, of " + strings.Join(own, ", ")
	case reflect.Slice:
		return "a list, in which each is " + wanted(t.Elem())
	case reflect.Array:
		return fmt.Sprintf("a list of %d, in which each is %s", t.Len(), wanted(t.Elem()))
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	}
	return "a word"
}

// keyOf is the key of a field in YAML; "" if it has none.
func keyOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	return strings.TrimPrefix(name, "-")
}

// nearestKey is another than the key itself, which may be known elsewhere.
func nearestKey(key string) string {
	others := slices.DeleteFunc(keys(reflect.TypeFor[Config]()), func(known string) bool { return known == key })
	return slices.MinFunc(others, func(a, b string) int {
		return levenshtein.ComputeDistance(key, a) - levenshtein.ComputeDistance(key, b)
	})
}

// groupsOf lists the groups of keys of a configuration type, such as "audit.stop", that have a key.
func groupsOf(t reflect.Type, at, key string) (groups []string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		name := keyOf(t.Field(i))
		if name == key {
			groups = append(groups, cmp.Or(at, "the outermost level"))
		}
		if name != "" {
			groups = append(groups, groupsOf(t.Field(i).Type, strings.TrimPrefix(at+"."+name, "."), key)...)
		}
	}
	return groups
}

// keys lists every key of a configuration type, in order.
func keys(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for i := range t.NumField() {
		field := t.Field(i)
		if name := keyOf(field); name != "" {
			names = append(append(names, name), keys(field.Type)...)
		}
	}
	return names
}
