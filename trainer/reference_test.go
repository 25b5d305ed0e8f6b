package trainer

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite docs/configuration.md")

const (
	referencePage   = "../docs/configuration.md"
	referenceHeader = `# Every key of a configuration

What ` + "`symaudit train --config`" + ` reads: YAML over the defaults. A list replaces the default's, and in a list of groups what is left out is 0, false
or empty. An unknown key, a value of another kind and one that is not accepted are refused by name, before anything is made. [configs/demo.yaml](../configs/demo.yaml) is one to start from, and a run's own ` + "`run.json`" + ` has every key.

` + "`go test ./trainer -run TestConfigurationReference -update`" + ` writes this page: types and meanings are those of the program's source, defaults its own, and
what is accepted is what it says itself when it is given something else. Without the flag the test fails where the page is no longer true.
`
)

// units of the keys that have one. Every other number is a count, an index or dimensionless.
var units = map[string]string{
	"data.euler.resolution": "cells", "data.euler.interval": "time in which velocity 1 crosses the domain", "data.euler.riemann.amplitude": "domain lengths",
	"data.euler.curved_riemann.amplitude": "domain lengths", "data.euler.perturbed_riemann.amplitude": "domain lengths",
	"models[].vit.patch": "cells", "training.batch_size": "transitions", "training.epochs": "epochs",
	"audit.every_epochs": "epochs", "audit.max_products": "products", "audit.max_seconds": "seconds", "audit.max_mib": "MiB",
	"audit.groups[].stride": "pixels", "audit.groups[].velocities[].x": "domain lengths per unit time", "audit.groups[].velocities[].y": "domain lengths per unit time",
	"audit.groups[].velocities[].z": "domain lengths per unit time",
	"audit.stop[].patience":         "audits", "audit.stop[].first_step": "optimizer steps",
}

// everyKey is a configuration in which every key has a value, so that another can be put in its place.
const everyKey = `
models:
  - {name: a, preset: tiny-unet}
  - {name: b, unet: {widths: [4, 4], blocks: 1, groups: 2, heads: 1}}
  - {name: c, vit: {patch: 4, width: 8, layers: 1, heads: 2, expansion: 2}}
  - {name: d, fno: {width: 4, modes: 4, layers: 1}}
audit:
  groups:
    - {name: translations, stride: 8}
    - {name: boosts, velocities: [{x: 1, y: 0.5}]}
    - {name: scalings, factors: [2]}
  directions: [loss, kernel]
  kernel_draws: 2
  sinks: [jsonl]
  stop: [{monitor: boosts/coherence, mode: maximize, threshold: 0.9, patience: 3, min_delta: 0.1, divergence: 0.1, first_step: 3}]
`

// TestConfigurationReference writes docs/configuration.md and holds it to what the program does.
func TestConfigurationReference(t *testing.T) {
	config, err := ParseConfig([]byte(everyKey))
	require.NoError(t, err)
	require.NoError(t, config.Validate())
	r := &reference{
		t: t, words: wordsOfSources(t, ".", "euler", "../models", "../orbits"), config: &config, accepted: map[string]string{}, unused: map[string]bool{},
	}
	for key := range units {
		r.unused[key] = true
	}
	r.ask(reflect.ValueOf(&config).Elem(), "")
	r.page.WriteString(referenceHeader)
	r.section(reflect.TypeFor[Config](), reflect.ValueOf(Default()), "", 2)
	require.Empty(t, r.unused, "units of keys that do not exist")

	if *update {
		require.NoError(t, os.WriteFile(referencePage, []byte(r.page.String()), 0o666))
	}
	written, err := os.ReadFile(referencePage)
	require.NoError(t, err)
	require.Equal(t, string(written), r.page.String(), "docs/configuration.md is out of date: go test ./trainer -run TestConfigurationReference -update")
}

type reference struct {
	t        *testing.T
	words    map[string]map[string]string // by type and field; of the type itself ""
	config   *Config                      // valid, with every key
	accepted map[string]string            // by key
	unused   map[string]bool              // of units
	page     strings.Builder
}

// section writes the table of a group of keys, and then those of the groups in it.
func (r *reference) section(group reflect.Type, defaults reflect.Value, path string, depth int) {
	if path != "" {
		fmt.Fprintf(&r.page, "\n%s `%s`\n", strings.Repeat("#", depth), path)
		if words := r.words[group.String()][""]; words != "" {
			fmt.Fprintf(&r.page, "\n%s%s\n", strings.ToUpper(words[:1]), words[1:])
		}
	}
	r.page.WriteString("\n| key | type | default | unit | accepted | meaning |\n|---|---|---|---|---|---|\n")
	type below struct {
		group    reflect.Type
		defaults reflect.Value
		path     string
	}
	var groups []below
	for i := range group.NumField() {
		field := group.Field(i)
		key := keyOf(field)
		if key == "" {
			continue
		}
		at := strings.TrimPrefix(path+"."+key, ".")
		inner, list := field.Type, false
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			list = list || inner.Kind() == reflect.Slice
			inner = inner.Elem()
		}
		var value reflect.Value
		if defaults.IsValid() {
			value = defaults.Field(i)
		}
		kind, standard := wanted(field.Type), inYAML(value)
		if inner.Kind() == reflect.Struct {
			place := at
			if list {
				place += "[]"
				kind = "a list of groups of keys, below"
				value = reflect.Value{}
			} else {
				kind, standard = "a group of keys, below", ""
			}
			if value.IsValid() && value.Kind() == reflect.Pointer {
				value = reflect.Value{}
			}
			groups = append(groups, below{inner, value, place})
		}
		words := r.words[group.String()][field.Name]
		require.True(r.t, words != "" || inner.Kind() == reflect.Struct, "%s.%s (%s) has no comment that says what it is", group, field.Name, at)
		delete(r.unused, at)
		fmt.Fprintf(&r.page, "| `%s` | %s | %s | %s | %s | %s |\n", key, kind, standard, units[at], cell(r.accepted[at]), cell(words))
	}
	for _, g := range groups {
		r.section(g.group, g.defaults, g.path, min(depth+1, 4))
	}
}

// cell is text in which Markdown sees no marks of its own.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", `\<`, "*", `\*`).Replace(text)
}

// inYAML is a default as it would be written.
func inYAML(value reflect.Value) string {
	if !value.IsValid() {
		return ""
	}
	switch value.Kind() {
	case reflect.Slice, reflect.Array:
		if value.Len() == 0 {
			return "`[]`"
		}
		if value.Type().Elem().Kind() == reflect.Struct {
			var all []string
			for i := range value.Len() {
				var keys []string
				for j := range value.Index(i).NumField() {
					if field := value.Index(i).Field(j); !field.IsZero() {
						keys = append(keys, keyOf(value.Index(i).Type().Field(j))+": "+fmt.Sprint(field))
					}
				}
				all = append(all, "{"+strings.Join(keys, ", ")+"}")
			}
			return "`[" + strings.Join(all, ", ") + "]`"
		}
		var all []string
		for i := range value.Len() {
			all = append(all, fmt.Sprint(value.Index(i)))
		}
		return "`[" + strings.Join(all, ", ") + "]`"
	case reflect.Pointer:
		return ""
	case reflect.String:
		if value.Len() == 0 {
			return "empty"
		}
	}
	return fmt.Sprintf("`%v`", value)
}

// ask puts values that cannot work into the place of each key, and notes what would be accepted by what the configuration says of them.
func (r *reference) ask(value reflect.Value, path string) {
	try := func(wrong any) {
		before := reflect.New(value.Type()).Elem()
		before.Set(value)
		value.Set(reflect.ValueOf(wrong).Convert(value.Type()))
		err := r.config.Validate()
		value.Set(before)
		if err == nil {
			return
		}
		said := remedy(err.Error())
		if !strings.Contains(r.accepted[path], said) {
			r.accepted[path] = strings.TrimPrefix(r.accepted[path]+"; "+said, "; ")
		}
	}
	switch value.Kind() {
	case reflect.Pointer:
		if !value.IsNil() {
			r.ask(value.Elem(), path)
		}
	case reflect.Struct:
		for i := range value.NumField() {
			if key := keyOf(value.Type().Field(i)); key != "" {
				r.ask(value.Field(i), strings.TrimPrefix(path+"."+key, "."))
			}
		}
	case reflect.Slice:
		element := value.Type().Elem()
		switch element.Kind() {
		case reflect.Struct:
			for i := range value.Len() {
				r.ask(value.Index(i), path+"[]")
			}
		case reflect.String:
			try(reflect.Append(reflect.MakeSlice(value.Type(), 0, 1), reflect.ValueOf("?").Convert(element)).Interface())
		default:
			try(reflect.Append(reflect.MakeSlice(value.Type(), 0, 1), reflect.ValueOf(-1).Convert(element)).Interface())
		}
		if element.Kind() != reflect.Struct {
			try(reflect.MakeSlice(value.Type(), 0, 0).Interface())
		}
	case reflect.Array:
		backwards := reflect.New(value.Type()).Elem()
		backwards.Index(0).SetFloat(2)
		backwards.Index(1).SetFloat(-1)
		try(backwards.Interface())
	case reflect.String:
		try("?")
	case reflect.Int, reflect.Int64:
		for _, wrong := range []int64{-1, 0, math.MaxInt64} {
			try(wrong)
		}
	case reflect.Float64:
		for _, wrong := range []float64{-1, 0, math.NaN(), 1e300} {
			try(wrong)
		}
	}
}

// accepting finds what an error says would be right, and advice what is for the one who made the error.
var (
	accepting = regexp.MustCompile(`[;,] (?:(?:(?:it|factors|all) )?must be |use |name |give (?:it )?|need )(.*)$|[;,] (width and layers must be .*)$|needs a stride of (.*), got|and a coherence lies (.*)$`)
	advice    = regexp.MustCompile(`^(?:[0-9]|another|fewer)`)
)

// remedy is what an error says would be right.
func remedy(fault string) string {
	found := accepting.FindStringSubmatch(fault)
	if found == nil {
		return ""
	}
	if said := cmp.Or(found[1:]...); !advice.MatchString(said) {
		return said
	}
	return ""
}

// wordsOfSources are the comments of all struct types of packages and of their fields, by "package.Type" and name. What a comment says
// of other fields of its type it says of their keys.
func wordsOfSources(t *testing.T, folders ...string) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	for _, folder := range folders {
		paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
		require.NoError(t, err)
		for _, path := range paths {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			require.NoError(t, err)
			for _, declaration := range file.Decls {
				types, ok := declaration.(*ast.GenDecl)
				if !ok || types.Tok != token.TYPE {
					continue
				}
				for _, spec := range types.Specs {
					spec := spec.(*ast.TypeSpec)
					group, ok := spec.Type.(*ast.StructType)
					if !ok {
						continue
					}
					keys := map[string]string{}
					for _, field := range group.Fields.List {
						if field.Tag == nil {
							continue
						}
						tag, err := strconv.Unquote(field.Tag.Value)
						require.NoError(t, err)
						for _, name := range field.Names {
							keys[name.Name] = keyOf(reflect.StructField{Tag: reflect.StructTag(tag)})
						}
					}
					words := map[string]string{"": plainWords(types.Doc.Text(), spec.Name.Name, keys)}
					for _, field := range group.Fields.List {
						for _, name := range field.Names {
							words[name.Name] = plainWords(cmp.Or(field.Comment.Text(), field.Doc.Text()), name.Name, keys)
						}
					}
					all[file.Name.Name+"."+spec.Name.Name] = words
				}
			}
		}
	}
	return all
}

var word = regexp.MustCompile(`\b[A-Z][A-Za-z]*\b`)

// plainWords is a comment on a name as one paragraph, with keys in the place of the fields that have them.
func plainWords(comment, name string, keys map[string]string) string {
	text := strings.Join(strings.Fields(comment), " ")
	text = strings.TrimPrefix(text, name+" ")
	for _, verb := range []string{"is ", "holds ", "are "} {
		text = strings.TrimPrefix(text, verb)
	}
	return word.ReplaceAllStringFunc(text, func(found string) string {
		if key := keys[found]; key != "" {
			return "`" + key + "`"
		}
		return found
	})
}
