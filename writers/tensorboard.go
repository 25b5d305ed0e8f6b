package writers

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/monitor"
	"github.com/symaudit/symaudit/internal/quantile"
)

// Scalars is a folder of event files that TensorBoard shows as curves; see TensorBoard. It is an audit.Sink, safe for concurrent use.
// Nothing is to be closed.
type Scalars struct {
	dir  string
	disk files

	mu     sync.Mutex
	boards map[identity]board
}

// board is the event file of one training in this process.
type board struct {
	file    growing
	attempt int32
	step    int64 // the latest that was written
}

// TensorBoard opens a folder for the curves of a run, for `tensorboard --logdir` to show: in each audit what stop rules can monitor of
// a group, at its smallest damping, by the same names, "d4/coherence", "d4/kernel/coherence", "d4/target_error", "d4/commutator_error",
// with the bounds of a coherence where there are any, "d4/coherence/low" and "d4/coherence/high"; of the held-out trajectories that an
// audit evaluates "evaluation/one_step_error", the median over all states, and "evaluation/rollout_error", that over the last states; and of
// each training step "loss" and "learning_rate". What has no value in an audit has no point there.
//
// Each training has a folder of its own, its model and seed, "unet-seed-0", and each process in it an event file. The horizontal axis
// is the optimizer step; the wall time is that of the Write. Values are float32, as TensorBoard keeps scalars. Where a training is
// resumed, or goes back to an earlier step, TensorBoard forgets what it had from there on.
//
// Folders that are missing are made by the first Write.
func TensorBoard(dir string) (*Scalars, error) { return openBoards(dir, osFiles{}) }

func openBoards(dir string, disk files) (*Scalars, error) {
	if dir == "" {
		return nil, errors.New("writers: the folder for TensorBoard has no name; give one, such as runs/first/tensorboard")
	}
	if status, err := os.Stat(dir); err == nil && !status.IsDir() {
		return nil, fmt.Errorf("writers: %s is no folder, which TensorBoard needs; choose another name", dir)
	}
	return &Scalars{dir: dir, disk: disk, boards: map[identity]board{}}, nil
}

// String is the folder as it was given to TensorBoard, for messages.
func (s *Scalars) String() string { return s.dir }

// Write appends the scalars of records, and nothing where these have none. After it has returned nil they survive a power failure.
// After an error nothing of them is in the files and these can be written to again, unless the error says that they could not be taken
// back.
func (s *Scalars) Write(records *audit.Records) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if records == nil {
		return nil
	}
	now := time.Now()
	written := map[identity]board{}
	for _, training := range pointsOf(records) {
		b, known := s.boards[training.identity]
		if !known {
			var err error
			if b, err = s.begin(training.identity, now); err != nil {
				return err
			}
			s.boards[training.identity] = b // though nothing be written, so that no second file is begun
		}
		if err := b.write(training.points, now); err != nil {
			for id, other := range written {
				err = errors.Join(err, other.file.cut(s.boards[id].file.size))
			}
			return err
		}
		written[training.identity] = b
	}
	for id, b := range written {
		s.boards[id] = b
	}
	return nil
}

const eventFile = "events.out.tfevents." // what TensorBoard looks for in names

// begin names the event file of a training. TensorBoard reads the files of a folder in the order of their names, which begin with the
// time in seconds: this is later than all that are there.
func (s *Scalars) begin(id identity, now time.Time) (board, error) {
	folder := filepath.Join(s.dir, url.PathEscape(id.model)+"-seed-"+strconv.FormatInt(id.seed, 10))
	second := now.Unix()
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return board{}, explain("list", folder, err)
	}
	for _, entry := range entries {
		rest, ok := strings.CutPrefix(entry.Name(), eventFile)
		digits, _, _ := strings.Cut(rest, ".")
		if earlier, err := strconv.ParseInt(digits, 10, 64); ok && err == nil {
			second = max(second, earlier+1)
		}
	}
	name := fmt.Sprintf("%s%010d.symaudit.%d", eventFile, second, os.Getpid())
	return board{file: growing{path: filepath.Join(folder, name), disk: s.disk}, step: -1}, nil
}

// write appends points, whose steps ascend within an attempt. A new process, a new attempt and an earlier step than before are a
// restart, from which on TensorBoard forgets what it had.
func (b *board) write(points []point, now time.Time) error {
	var content []byte
	for _, p := range points {
		if b.file.size == 0 && content == nil {
			content = appendRecord(content, versionEvent(now))
			b.step = math.MaxInt64
		}
		if p.attempt != b.attempt || p.step < b.step {
			content = appendRecord(content, restartEvent(now, p.step))
		}
		content = appendRecord(content, scalarsEvent(now, p.step, p.scalars))
		b.attempt, b.step = p.attempt, p.step
	}
	return b.file.append(content)
}

// point is what is known of a training at a step.
type point struct {
	attempt int32
	step    int64
	scalars []scalar
}

type scalar struct {
	tag   string
	value float64
}

type trainingPoints struct {
	identity
	points []point
}

// pointsOf takes records apart by training, in the order in which these appear, by attempt and step.
func pointsOf(records *audit.Records) (all []trainingPoints) {
	type place struct {
		identity
		attempt int32
		step    int64
	}
	places := map[place][2]int{} // index of the training, and of the point in it
	at := func(m *audit.Moment) *point {
		p := place{identity{m.Model, m.Seed}, m.Attempt, m.Step}
		found, known := places[p]
		if !known {
			i := slices.IndexFunc(all, func(t trainingPoints) bool { return t.identity == p.identity })
			if i < 0 {
				i = len(all)
				all = append(all, trainingPoints{identity: p.identity})
			}
			found = [2]int{i, len(all[i].points)}
			places[p] = found
			all[i].points = append(all[i].points, point{attempt: m.Attempt, step: m.Step})
		}
		return &all[found[0]].points[found[1]]
	}
	for i := range records.Training {
		row := &records.Training[i]
		p := at(&row.Moment)
		p.scalars = append(p.scalars, scalar{"loss", row.Loss}, scalar{"learning_rate", row.LearningRate})
	}
	audited := map[audit.Moment]*audit.Records{}
	var moments []audit.Moment
	for _, row := range records.Coherence {
		if audited[row.Moment] == nil {
			audited[row.Moment] = &audit.Records{}
			moments = append(moments, row.Moment)
		}
		audited[row.Moment].Coherence = append(audited[row.Moment].Coherence, row)
	}
	for _, moment := range moments {
		p := at(&moment)
		for _, r := range monitor.Readings(audited[moment]) {
			for _, s := range []struct {
				tag   string
				value *float64
			}{{r.Monitor, r.Value}, {r.Monitor + "/low", r.Low}, {r.Monitor + "/high", r.High}} {
				if r.Value != nil && s.value != nil {
					p.scalars = append(p.scalars, scalar{s.tag, *s.value})
				}
			}
		}
	}
	for _, evaluated := range evaluationsOf(records) {
		p := at(&evaluated.moment)
		for _, s := range []struct {
			tag    string
			values []float64
		}{{"evaluation/one_step_error", evaluated.oneStep}, {"evaluation/rollout_error", evaluated.rollout}} {
			infinite := func(value float64) bool { return math.IsNaN(value) || math.IsInf(value, 0) }
			if !slices.ContainsFunc(s.values, infinite) {
				p.scalars = append(p.scalars, scalar{s.tag, quantile.Of(s.values, 0.5)})
			}
		}
	}
	for i := range all {
		all[i].points = slices.DeleteFunc(all[i].points, func(p point) bool { return len(p.scalars) == 0 })
		slices.SortFunc(all[i].points, func(a, b point) int {
			return cmp.Or(cmp.Compare(a.attempt, b.attempt), cmp.Compare(a.step, b.step))
		})
	}
	return slices.DeleteFunc(all, func(t trainingPoints) bool { return len(t.points) == 0 })
}

// evaluated are the errors of one audit that curves show: of all states one step ahead, and at the end of the rollouts.
type evaluated struct {
	moment           audit.Moment
	oneStep, rollout []float64
}

func evaluationsOf(records *audit.Records) (all []*evaluated) {
	last := map[audit.Moment]int32{}
	for _, row := range records.Evaluation {
		last[row.Moment] = max(last[row.Moment], row.TimeIndex)
	}
	found := map[audit.Moment]*evaluated{}
	for _, row := range records.Evaluation {
		e := found[row.Moment]
		if e == nil {
			e = &evaluated{moment: row.Moment}
			found[row.Moment] = e
			all = append(all, e)
		}
		e.oneStep = append(e.oneStep, row.OneStepError)
		if row.TimeIndex == last[row.Moment] {
			e.rollout = append(e.rollout, row.RolloutError)
		}
	}
	return all
}

// The messages of TensorFlow's event.proto and summary.proto, by the numbers of their fields.
const (
	eventWallTime    = 1 // double
	eventStep        = 2 // int64
	eventFileVersion = 3 // string
	eventSummary     = 5 // Summary
	eventSessionLog  = 7 // SessionLog

	summaryValue = 1 // Value
	valueTag     = 1 // string
	valueSimple  = 2 // float

	sessionLogStatus = 1 // an enum
	sessionStarts    = 1
)

func versionEvent(wall time.Time) []byte {
	event := appendEvent(nil, wall, 0)
	event = protowire.AppendTag(event, eventFileVersion, protowire.BytesType)
	return protowire.AppendString(event, "brain.Event:2")
}

// restartEvent makes TensorBoard forget what it has of a step and later ones.
func restartEvent(wall time.Time, step int64) []byte {
	log := protowire.AppendTag(nil, sessionLogStatus, protowire.VarintType)
	log = protowire.AppendVarint(log, sessionStarts)
	event := appendEvent(nil, wall, step)
	event = protowire.AppendTag(event, eventSessionLog, protowire.BytesType)
	return protowire.AppendBytes(event, log)
}

func scalarsEvent(wall time.Time, step int64, scalars []scalar) []byte {
	var summary []byte
	for _, s := range scalars {
		value := protowire.AppendTag(nil, valueTag, protowire.BytesType)
		value = protowire.AppendString(value, s.tag)
		value = protowire.AppendTag(value, valueSimple, protowire.Fixed32Type)
		value = protowire.AppendFixed32(value, math.Float32bits(float32(s.value)))
		summary = protowire.AppendTag(summary, summaryValue, protowire.BytesType)
		summary = protowire.AppendBytes(summary, value)
	}
	event := appendEvent(nil, wall, step)
	event = protowire.AppendTag(event, eventSummary, protowire.BytesType)
	return protowire.AppendBytes(event, summary)
}

func appendEvent(to []byte, wall time.Time, step int64) []byte {
	to = protowire.AppendTag(to, eventWallTime, protowire.Fixed64Type)
	to = protowire.AppendFixed64(to, math.Float64bits(float64(wall.UnixMicro())/1e6))
	if step == 0 {
		return to // what is left out is 0
	}
	to = protowire.AppendTag(to, eventStep, protowire.VarintType)
	return protowire.AppendVarint(to, uint64(step))
}

// appendRecord frames a message as a TFRecord does: its length, the checksum of that, the message and its checksum.
func appendRecord(to, message []byte) []byte {
	length := binary.LittleEndian.AppendUint64(nil, uint64(len(message)))
	to = append(to, length...)
	to = binary.LittleEndian.AppendUint32(to, maskedChecksum(length))
	to = append(to, message...)
	return binary.LittleEndian.AppendUint32(to, maskedChecksum(message))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedChecksum is a CRC-32C, turned and shifted so that a checksum of bytes with a checksum among them means something.
func maskedChecksum(of []byte) uint32 {
	sum := crc32.Checksum(of, castagnoli)
	return (sum>>15 | sum<<17) + 0xa282ead8
}
