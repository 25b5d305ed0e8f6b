// Package exampletest checks that a package shows all it exports in examples that run.
package exampletest

import (
	"errors"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"testing"
)

const module = "github.com/symaudit/symaudit/"

// Complete fails the test unless each exported function and method of the package in the working directory is used in the body of
// an example whose output is checked. except names those that need none, as "Function" or "Type.Method", with the reason; one
// that an example uses after all, or that is gone, fails too. Methods of interfaces are the callers' to write and are not asked for.
func Complete(t *testing.T, except map[string]string) {
	t.Helper()
	used, err := examined(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		_, excepted := except[name]
		if !used[name] && !excepted {
			t.Errorf("no example with checked output uses %s; add one, named after it or after what it belongs to", name)
		}
		if used[name] && excepted {
			t.Errorf("an example uses %s; it is no exception any more", name)
		}
	}
	for name, reason := range except {
		if _, exists := used[name]; !exists {
			t.Errorf("the exception %s (%s) is not exported", name, reason)
		}
	}
}

// examined lists the exported functions and methods of the package in a folder and says which of them an example uses.
//
// It lets the type checker find out whose method a name is: hook.Close() is no use of another type's Close. No other package
// is loaded for that. What comes from one has no type then, and the errors that this makes are ignored.
func examined(dir string) (map[string]bool, error) {
	found, err := build.ImportDir(dir, 0)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	parse := func(names []string) (files []*ast.File, err error) {
		for _, name := range names {
			file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.ParseComments)
			if err != nil {
				return nil, err
			}
			files = append(files, file)
		}
		return files, nil
	}
	sources, err := parse(slices.Concat(found.GoFiles, found.CgoFiles))
	if err != nil {
		return nil, err
	}
	tests, err := parse(found.XTestGoFiles)
	if err != nil {
		return nil, err
	}
	config := types.Config{Error: func(error) {}, FakeImportC: true, Importer: only{}}
	library, _ := config.Check(module+found.Name, fset, sources, nil)
	config.Importer = only{library}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	_, _ = config.Check(library.Path()+"_test", fset, tests, &info)

	examples := map[string]bool{} // whose output is checked
	for _, example := range doc.Examples(tests...) {
		examples["Example"+example.Name] = example.Output != ""
	}
	uses := map[types.Object]bool{}
	for _, file := range tests {
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok || function.Recv != nil || !examples[function.Name.Name] {
				continue
			}
			ast.Inspect(function.Body, func(node ast.Node) bool {
				if name, ok := node.(*ast.Ident); ok {
					uses[info.Uses[name]] = true
					if method, ok := info.Uses[name].(*types.Func); ok {
						uses[method.Origin()] = true // of a generic type
					}
				}
				return true
			})
		}
	}
	used := map[string]bool{}
	for name, object := range exported(library.Scope()) {
		used[name] = uses[object]
	}
	return used, nil
}

// exported are the functions of a package and the methods of its types, by name.
func exported(scope *types.Scope) map[string]types.Object {
	all := map[string]types.Object{}
	for _, name := range scope.Names() {
		object := scope.Lookup(name)
		if !object.Exported() {
			continue
		}
		if _, ok := object.(*types.Func); ok {
			all[name] = object
		}
		named, ok := object.Type().(*types.Named)
		if _, isType := object.(*types.TypeName); !ok || !isType {
			continue
		}
		for method := range named.Methods() { // those of an interface are not among them
			if method.Exported() {
				all[name+"."+method.Name()] = method
			}
		}
	}
	return all
}

// only imports one package, and no other.
type only struct{ library *types.Package }

func (o only) Import(path string) (*types.Package, error) {
	if o.library != nil && path == o.library.Path() {
		return o.library, nil
	}
	return nil, errors.New("not loaded")
}
