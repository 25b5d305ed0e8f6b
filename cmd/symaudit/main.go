// Command symaudit trains surrogates of the Euler equations with symmetry audits along the way, audits checkpoints,
// draws reports, and checks an installation. `symaudit help` lists its commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/internal/cause"
)

// Exit codes.
const (
	exitOK           = 0
	exitFailure      = 1
	exitUsage        = 2
	exitStoppedEarly = 3 // by a stop rule, with --fail-on-stop
)

var errStoppedEarly = errors.New("training was stopped early by a stop rule")

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	// The first signal asks for a clean end with everything finished kept; a second one ends the process.
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		received := <-signals
		signal.Stop(signals)
		cause := errors.New("interrupted")
		if received == syscall.SIGTERM {
			cause = errors.New("terminated")
		}
		fmt.Fprintf(stderr, "\nsymaudit: %v, ending after the part under way; a second time ends at once\n", cause)
		cancel(cause)
	}()

	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errStoppedEarly):
		return exitStoppedEarly
	}
	fmt.Fprintf(stderr, "symaudit: %s\n", cause.Plain(err)) // a command line knows no packages
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// settings are the flags of every command.
type settings struct {
	backend     string
	sameBackend bool // as the run at hand began on
	logLevel    string
}

// kinds are those of pflag in words.
var kinds = map[string]string{
	"byteSize": "a number of bytes, such as 512MiB or 1GiB, or 0",
	"bool":     "true or false", "int": "a whole number", "int64": "a whole number", "float64": "a number", "float64Slice": "numbers with commas between them", "stringSlice": "names with commas between them",
}

func newRoot() *cobra.Command {
	s := &settings{}
	root := &cobra.Command{
		Use:   "symaudit",
		Short: "audit the symmetries of a model while it trains",
		Long: `symaudit audits a model while it trains: does it respect the symmetries of its physics, and does learning
from a state also teach it the rotated, reflected or shifted state? Start with: symaudit demo`,
		Version:       strings.Join(versions(), ", "),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var value *pflag.InvalidValueError
		if errors.As(err, &value) {
			return usageError{fmt.Errorf("--%s is %q; it must be %s", value.GetFlag().Name, value.GetValue(), kinds[value.GetFlag().Value.Type()])}
		}
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	root.PersistentFlags().StringVar(&s.backend, "backend", backend.Auto, "`name` of what computes: auto, go, xla, xla:cpu or xla:cuda; auto takes XLA where a plugin is found")
	root.PersistentFlags().StringVar(&s.logLevel, "log-level", "warn", "`level` of the logs on standard error: debug, info, warn or error")
	root.AddCommand(newDemo(s), newTrain(s), newAudit(s), newMerge(), newExport(s), newReport(), newShow(), newRuns(), newCheck(), newCompact(), newData(s), newDoctor(s))
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SuggestionsMinimumDistance = 2
	return root
}

// logger writes for people, and takes GoMLX's own messages in.
func (s *settings) logger(stderr io.Writer) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(s.logLevel)
	if err != nil || !slices.Contains([]string{"debug", "info", "warn", "error"}, s.logLevel) {
		return zerolog.Nop(), usageError{fmt.Errorf("--log-level is %q; use debug, info, warn or error", s.logLevel)}
	}
	log := zerolog.New(zerolog.ConsoleWriter{Out: stderr, TimeFormat: time.TimeOnly, NoColor: !isTerminal(stderr)}).
		Level(level).With().Timestamp().Logger()
	klog.SetSlogLogger(slog.New(zerolog.NewSlogHandler(log)))
	return log, nil
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && cmd.HasSubCommands() {
		remedy := "see " + cmd.CommandPath() + " --help"
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			remedy = "did you mean " + strings.Join(near, " or ") + "?"
		}
		return usageError{fmt.Errorf("no command %q; %s", args[0], remedy)}
	}
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no argument, got %q; see %s --help", cmd.Name(), args[0], cmd.CommandPath())}
	}
	return nil
}

// oneArgument requires exactly one argument, called what in the error.
func oneArgument(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("%s takes one argument, %s, got %d; see %s --help", cmd.Name(), what, len(args), cmd.CommandPath())}
		}
		return nil
	}
}

// someRuns requires at least one argument.
func someRuns(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{fmt.Errorf("%s takes run directories, got none; see %s --help", cmd.Name(), cmd.CommandPath())}
	}
	return nil
}
