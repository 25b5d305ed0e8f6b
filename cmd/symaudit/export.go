package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/trainer"
)

func newExport(s *settings) *cobra.Command {
	var out string
	limit := byteSize(audit.DefaultJacobianLimit)
	cmd := &cobra.Command{
		Use:   "export <run directory>",
		Short: "write all that influence is computed from as NumPy arrays",
		Long: `export audits a checkpoint of a run, as symaudit audit does, and writes what every value was computed
from into a new folder: weights, moved probes, predictions, gradients and Jacobians as NumPy arrays, with the intervals
that the audit found, an index.json that says what each array is, and a README.md with the formulas. Whoever has the folder
can recompute every influence value with NumPy alone; scripts/check-export does.`,
		Args: oneArgument("a run directory"),
	}
	which, change := selectionFlags(cmd), auditFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if out == "" {
			return usageError{errors.New("--out is missing; name the folder to write, such as exports/unet")}
		}
		return s.auditCheckpoints(cmd, args[0], which, func(config *trainer.Config) error {
			config.Audit.Layers, config.Audit.Spectrum, config.Audit.LocalErrors, config.Audit.Pictures = false, false, false, false // tables that are no part of it
			change(config)
			return nil
		}, func(config trainer.Config, options trainer.Options, checkpoints []trainer.Checkpoint) error {
			if len(checkpoints) > 1 {
				return usageError{fmt.Errorf("%d checkpoints are meant; select one by --model, --seed and --steps", len(checkpoints))}
			}
			err := trainer.ExportCheckpoint(cmd.Context(), config, options, checkpoints[0], out, int64(limit))
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "export: %s\n", out)
			}
			return byLimit(err)
		})
	}
	cmd.Flags().StringVar(&out, "out", "", "`folder` to write; it must not exist")
	cmd.Flags().Var(&limit, "jacobian-limit", "most `bytes` of one batch's Jacobian, such as 512MiB; 0 leaves Jacobians out")
	return cmd
}

// byLimit names the flag of the limit, given or not, where that is what an export fails by: no configuration has a key for it.
func byLimit(err error) error {
	var fault *audit.SettingError
	if !errors.As(err, &fault) || fault.Setting != "jacobian_limit" {
		return err
	}
	return usageError{cause.Say("--jacobian-limit "+fault.Fault, err)}
}

// byteSize is a number of bytes as a flag: 1073741824, 1GiB or 0.5 GiB.
type byteSize int64

var byteUnits = []string{"KiB", "MiB", "GiB", "TiB"} // each 1024 of the one before

func (b *byteSize) String() string {
	n, unit := int64(*b), ""
	for _, larger := range byteUnits {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, larger
	}
	return fmt.Sprint(n, unit)
}

// Set reads a flag's value.
func (b *byteSize) Set(text string) error {
	number, factor := text, 1.0
	for i, unit := range byteUnits {
		if before, is := strings.CutSuffix(text, unit); is {
			number, factor = strings.TrimSpace(before), float64(int64(1)<<(10*(i+1)))
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n >= 0 && n*factor < 1<<62) {
		return errors.New("not a size")
	}
	*b = byteSize(n * factor)
	return nil
}

func (*byteSize) Type() string { return "byteSize" }
