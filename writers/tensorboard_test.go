package writers

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/symaudit/symaudit/audit"
)

// What TensorBoard 2.21.0's own RecordWriter writes of the same three events.
const ofTensorBoard = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c" +
	"0f000000000000006d532b0909000000000000f83f10183a020801d183668f" +
	"2f000000000000006d5d1d5009000000000000f83f10182a220a0b0a046c6f7373150000803e0a130a0c64342f636f686572656e636515000000bf9bac3be8"

func TestEventsAreThoseOfTensorBoard(t *testing.T) {
	at := time.UnixMilli(1500)
	var content []byte
	for _, event := range [][]byte{
		versionEvent(at), restartEvent(at, 24), scalarsEvent(at, 24, []scalar{{"loss", 0.25}, {"d4/coherence", -0.5}}),
	} {
		content = appendRecord(content, event)
	}
	require.Equal(t, ofTensorBoard, hex.EncodeToString(content))
	require.Equal(t, uint32(0xe3069283), crc32.Checksum([]byte("123456789"), castagnoli), "the check value of CRC-32C")
	require.Equal(t, []string{"brain.Event:2", "restart at 24", "24 loss 0.25", "24 d4/coherence -0.5"}, eventsIn(t, content))
}

// eventsIn reads an event file, in words; a record whose length or checksums are not right fails the test.
func eventsIn(t *testing.T, content []byte) (words []string) {
	t.Helper()
	for len(content) > 0 {
		length := binary.LittleEndian.Uint64(content)
		message := content[12:][:length]
		for _, sum := range []struct{ of, is []byte }{{content[:8], content[8:12]}, {message, content[12+length:]}} {
			crc := crc32.Checksum(sum.of, crc32.MakeTable(crc32.Castagnoli))
			require.Equal(t, (crc>>15|crc<<17)+0xa282ead8, binary.LittleEndian.Uint32(sum.is))
		}
		content = content[16+length:]
		event := fields(t, message)
		require.Len(t, event[1], 1)
		step := uint64(0)
		if event[2] != nil {
			step = event[2][0].(uint64)
		}
		for _, version := range event[3] {
			words = append(words, string(version.([]byte)))
		}
		for _, log := range event[7] {
			require.Equal(t, uint64(1), fields(t, log.([]byte))[1][0])
			words = append(words, fmt.Sprintf("restart at %d", step))
		}
		for _, summary := range event[5] {
			for _, value := range fields(t, summary.([]byte))[1] {
				scalar := fields(t, value.([]byte))
				words = append(words, fmt.Sprintf("%d %s %g", step, scalar[1][0], math.Float32frombits(scalar[2][0].(uint32))))
			}
		}
	}
	return words
}

// fields are those of a message by number.
func fields(t *testing.T, message []byte) map[protowire.Number][]any {
	t.Helper()
	found := map[protowire.Number][]any{}
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		require.Positive(t, n)
		message = message[n:]
		var value any
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(message)
		case protowire.Fixed64Type:
			value, n = protowire.ConsumeFixed64(message)
		case protowire.Fixed32Type:
			value, n = protowire.ConsumeFixed32(message)
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(message)
		}
		require.Positive(t, n)
		message = message[n:]
		found[number] = append(found[number], value)
	}
	return found
}

// boardsIn are the events of each folder, file after file.
func boardsIn(t *testing.T, dir string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "events.out.tfevents.*"))
	require.NoError(t, err)
	slices.Sort(files)
	found := map[string][]string{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		folder := filepath.Base(filepath.Dir(file))
		found[folder] = append(found[folder], eventsIn(t, content)...)
	}
	return found
}

func newBoards(t *testing.T, dir string) *Scalars {
	t.Helper()
	scalars, err := TensorBoard(dir)
	require.NoError(t, err)
	return scalars
}

// scored is a step with its loss and an audit of two groups, one in two directions, at two dampings.
func scored(step int64, attempt int32) *audit.Records {
	at := audit.Moment{Attempt: attempt, Model: "unet", Seed: 7, Step: step}
	coherence, low, high, minus, one, target, damped := 0.5, 0.25, 0.75, -1.0, 1.0, 2.0, 0.125
	row := audit.CoherenceRow{
		Moment: at, GroupName: "d4", Direction: "loss", Element: audit.AllElements, N: 2, Median: &coherence, MedianLow: &low, MedianHigh: &high,
		NErrors: 4, NFiniteTargetErrors: 4, MedianTargetError: &target,
	}
	element, larger, kernel, unknown := row, row, row, row
	element.Element = "r"
	larger.Median = &damped
	kernel.Direction, kernel.MedianLow, kernel.MedianHigh = "kernel", nil, nil
	unknown.GroupName, unknown.MedianLow, unknown.MedianHigh = "translations", &minus, &one
	return &audit.Records{
		Training:  []audit.TrainingRow{{Moment: at, Loss: 1 / float64(step), LearningRate: 0.5}},
		Coherence: []audit.CoherenceRow{element, row, larger, kernel, unknown},
		Decisions: []audit.DecisionRow{{Moment: at, Decision: audit.Finished}},
	}
}

// scoredWords are the scalars of scored.
func scoredWords(step int64) []string {
	var words []string
	for _, scalar := range []string{
		fmt.Sprintf("loss %g", float32(1/float64(step))), "learning_rate 0.5", "d4/coherence 0.5", "d4/coherence/low 0.25", "d4/coherence/high 0.75",
		"d4/target_error 2", "d4/kernel/coherence 0.5", "translations/target_error 2",
	} {
		words = append(words, fmt.Sprintf("%d %s", step, scalar))
	}
	return words
}

func TestScalarsOfEveryAudit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tensorboard")
	scalars := newBoards(t, dir)
	require.NoDirExists(t, dir, "nothing is written yet")
	require.NoError(t, scalars.Write(nil))
	require.NoError(t, scalars.Write(&audit.Records{Decisions: scored(1, 1).Decisions}))
	require.NoDirExists(t, dir, "a decision has no scalar")
	both := scored(2, 1)
	both.Add(scored(4, 1))
	both.Add(ofModel("a/b", trainingAt(3)))
	require.NoError(t, scalars.Write(both))
	require.NoError(t, scalars.Write(scored(6, 1)))
	require.Equal(t, map[string][]string{
		"unet-seed-7":  slices.Concat([]string{"brain.Event:2", "restart at 2"}, scoredWords(2), scoredWords(4), scoredWords(6)),
		"a%2Fb-seed-7": {"brain.Event:2", "restart at 3", "3 loss 0.25", "3 learning_rate 0.001", "3 loss 0.125", "3 learning_rate 0.001"},
	}, boardsIn(t, dir))
}

// A process that goes on, a new attempt and an earlier step are a restart: TensorBoard forgets what it had from there on. Files of
// later processes are later in the order of their names, within a second too.
func TestScalarsOfWhatIsDoneAgain(t *testing.T) {
	dir := t.TempDir()
	scalars := newBoards(t, dir)
	for _, at := range []struct {
		step    int64
		attempt int32
	}{{1, 1}, {2, 1}, {2, 2}, {1, 2}} {
		require.NoError(t, scalars.Write(scored(at.step, at.attempt)))
	}
	want := slices.Concat([]string{"brain.Event:2", "restart at 1"}, scoredWords(1), scoredWords(2), []string{"restart at 2"}, scoredWords(2), []string{"restart at 1"}, scoredWords(1))
	for range 3 {
		require.NoError(t, newBoards(t, dir).Write(scored(2, 2)))
		want = slices.Concat(want, []string{"brain.Event:2", "restart at 2"}, scoredWords(2))
	}
	require.Equal(t, want, boardsIn(t, dir)["unet-seed-7"])
	owed := scored(3, 2) // in one write, as a sink gets it that has failed for a while
	owed.Add(scored(2, 3))
	require.NoError(t, scalars.Write(owed))
	require.Contains(t, strings.Join(boardsIn(t, dir)["unet-seed-7"], "\n"),
		strings.Join(slices.Concat(scoredWords(3), []string{"restart at 2"}, scoredWords(2)), "\n"))
}

func TestAFailedWriteOfScalarsLeavesNothing(t *testing.T) {
	for failing := range 3 { // the append that fails: of the first training, of the second, of none
		dir := t.TempDir()
		disk := &failingFiles{}
		scalars, err := openBoards(dir, disk)
		require.NoError(t, err)
		both := scored(2, 1)
		both.Add(ofModel("vit", scored(2, 1)))
		appends := 0
		disk.fault = func(operation, _ string) error {
			if operation == "append" {
				if appends++; appends == failing+1 {
					return syscall.ENOSPC
				}
			}
			return nil
		}
		failure := scalars.Write(both)
		if failing < 2 {
			require.ErrorContains(t, failure, "no space left on device; free space there")
			for _, events := range boardsIn(t, dir) {
				require.Empty(t, events)
			}
			require.NoError(t, scalars.Write(both))
		}
		for _, folder := range []string{"unet-seed-7", "vit-seed-7"} {
			require.Equal(t, slices.Concat([]string{"brain.Event:2", "restart at 2"}, scoredWords(2)), boardsIn(t, dir)[folder])
		}
	}
}

func TestTensorBoardRefuses(t *testing.T) {
	_, err := TensorBoard("")
	require.ErrorContains(t, err, "writers: the folder for TensorBoard has no name; give one")
	file := filepath.Join(t.TempDir(), "a")
	require.NoError(t, os.WriteFile(file, nil, 0o666))
	_, err = TensorBoard(file)
	require.ErrorContains(t, err, "is no folder, which TensorBoard needs; choose another name")
	long := newBoards(t, t.TempDir())
	require.ErrorContains(t, long.Write(ofModel(strings.Repeat("x", 300), scored(1, 1))), "file name too long")
}

// Of an evaluation the medians are shown: of all states one step ahead, and of the last of each rollout; none where a value is not finite.
func TestScalarsOfEvaluations(t *testing.T) {
	dir := t.TempDir()
	records := &audit.Records{}
	for _, step := range []int64{5, 9} {
		for sample, last := range []float64{8, 2, 4} {
			at := audit.Moment{Attempt: 1, Model: "unet", Seed: 7, Step: step}
			first := float64(sample + 1)
			if step == 9 && sample == 1 {
				last = math.Inf(1)
			}
			records.Evaluation = append(records.Evaluation,
				audit.EvaluationRow{Moment: at, Sample: int32(sample), TimeIndex: 1, OneStepError: first, RolloutError: first},
				audit.EvaluationRow{Moment: at, Sample: int32(sample), TimeIndex: 2, OneStepError: 3, RolloutError: last})
		}
	}
	require.NoError(t, newBoards(t, dir).Write(records))
	require.Equal(t, []string{"brain.Event:2", "restart at 5", "5 evaluation/one_step_error 3", "5 evaluation/rollout_error 4", "9 evaluation/one_step_error 3"}, boardsIn(t, dir)["unet-seed-7"])
}
