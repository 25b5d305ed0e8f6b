package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"symaudit": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// Scripts run on the Go backend unless they ask for another.
			env.Setenv("PJRT_PLUGIN_LIBRARY_PATH", env.WorkDir+"/no-plugin")
			env.Setenv("GOMLX_NO_AUTO_INSTALL", "1")
			files, err := filepath.Abs("../../trainer/dataset/pdegym/testdata")
			env.Setenv("PDEGYM", files) // files in the form of PDEGym's
			if err == nil {
				files, err = filepath.Abs("../../examples")
				env.Setenv("EXAMPLES", files)
			}
			return err
		},
	})
}
