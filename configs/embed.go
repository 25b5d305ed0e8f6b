// Package configs holds the configurations that come with the program.
package configs

import _ "embed"

// Demo is the configuration of `symaudit demo`.
//
//go:embed demo.yaml
var Demo []byte
