package trainer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
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
	empty := true
	for _, document := range file.Docs {
		if document.Body == nil || document.Body.Type() == ast.NullType {
			continue
		}
		empty = false
		if err := checkKinds(document.Body, reflect.TypeFor[Config](), ""); err != nil {
			return Config{}, err
		}
	}
	if empty { // changes nothing
		return config, nil
	}
	err = yaml.NewDecoder(bytes.NewReader(source), yaml.Strict()).Decode(&config)
	if err == nil {
		return config, nil
	}
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		key := unknown.GetToken().Value
		return Config{}, fmt.Errorf("trainer: line %d: unknown key %q; did you mean %q?", unknown.GetToken().Position.Line, key, nearestKey(key))
	}
	return Config{}, located(err)
}

// located is an error of the YAML library in one sentence, with the line where it knows it.
func located(err error) error {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		return fmt.Errorf("trainer: line %d: %s", at.GetToken().Position.Line, at.GetMessage())
	}
	return fmt.Errorf("trainer: %w", err)
}

// checkKinds refuses what the decoder would let through or speak of in Go's types: a key without a value would take the
// default, 7.5 where a whole number belongs would become 7. Unknown keys are left to the decoder.
func checkKinds(node ast.Node, t reflect.Type, path string) error {
	fault := func(want string) error {
		at := node.GetToken()
		return fmt.Errorf("trainer: line %d: %s is %s; it must be %s", at.Position.Line, path, at.Value, want)
	}
	if t.Kind() == reflect.Pointer {
		if node.Type() == ast.NullType {
			return nil // the same as left out
		}
		t = t.Elem()
	}
	switch value := node.(type) {
	case *ast.NullNode:
		if t.Kind() == reflect.Slice {
			return nil // an empty list
		}
		return fmt.Errorf("trainer: line %d: %s has no value; write one, or leave the key out to take the default", value.GetToken().Position.Line, path)
	case *ast.MappingNode:
		if t.Kind() != reflect.Struct {
			return nil
		}
		for _, entry := range value.Values {
			key := entry.Key.GetToken().Value
			for i := range t.NumField() {
				field := t.Field(i)
				if name, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); name != key {
					continue
				}
				if err := checkKinds(entry.Value, field.Type, strings.TrimPrefix(path+"."+key, ".")); err != nil {
					return err
				}
			}
		}
	case *ast.SequenceNode:
		if t.Kind() != reflect.Slice {
			return nil
		}
		for i, entry := range value.Values {
			if err := checkKinds(entry, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case *ast.FloatNode, *ast.StringNode, *ast.BoolNode: // 1e-6 counts as a string there
		number, err := strconv.ParseFloat(node.GetToken().Value, 64)
		switch {
		case whole(t) && (err != nil || number != math.Trunc(number)):
			return fault("a whole number")
		case t.Kind() == reflect.Float64 && err != nil:
			return fault("a number")
		}
	}
	return nil
}

func whole(t reflect.Type) bool { return t.Kind() == reflect.Int || t.Kind() == reflect.Int64 }

// nearestKey is another than the key itself, which may be known elsewhere.
func nearestKey(key string) string {
	others := slices.DeleteFunc(keys(reflect.TypeFor[Config]()), func(known string) bool { return known == key })
	return slices.MinFunc(others, func(a, b string) int {
		return levenshtein.ComputeDistance(key, a) - levenshtein.ComputeDistance(key, b)
	})
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
		if name, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); name != "" && name != "-" {
			names = append(append(names, name), keys(field.Type)...)
		}
	}
	return names
}
