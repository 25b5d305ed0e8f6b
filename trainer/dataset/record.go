package dataset

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// record is what is known of one trajectory: a line of JSON in the file beside its family's array.
type record struct {
	Trajectory int    `json:"trajectory"`
	SHA256     string `json:"sha256"` // of its bytes in the array
	Statistics
}

// Statistics are over all snapshots and cells of some trajectories, a number for each channel, in the units of the data.
type Statistics struct {
	Least      []float64 `json:"least"`
	Greatest   []float64 `json:"greatest"`
	Mean       []float64 `json:"mean"`
	MeanSquare []float64 `json:"mean_square"`
}

// Deviation is the standard deviation of a channel.
func (s Statistics) Deviation(channel int) float64 {
	return math.Sqrt(max(0, s.MeanSquare[channel]-s.Mean[channel]*s.Mean[channel]))
}

// measure returns the record of a trajectory from its numbers, [time, ..., channel], and their bytes. A number that is not finite is an error: one
// would spread to all others when states are normalized.
func (d Description) measure(trajectory int, values []float32, encoded []byte) (record, error) {
	channels := len(d.Field.Channels)
	hash := sha256.Sum256(encoded)
	s := Statistics{
		Least: slices.Repeat([]float64{math.Inf(1)}, channels), Greatest: slices.Repeat([]float64{math.Inf(-1)}, channels),
		Mean: make([]float64, channels), MeanSquare: make([]float64, channels),
	}
	for i, value := range values {
		v, c := float64(value), i%channels
		if !finite(v) {
			return record{}, fmt.Errorf("snapshot %d of trajectory %d holds %g in %s", i/d.values(), trajectory, v, d.Field.Channels[c])
		}
		s.Least[c], s.Greatest[c] = min(s.Least[c], v), max(s.Greatest[c], v)
		s.Mean[c] += v
		s.MeanSquare[c] += v * v
	}
	cells := float64(len(values) / channels)
	for c := range channels {
		s.Mean[c] /= cells
		s.MeanSquare[c] /= cells
	}
	return record{trajectory, hex.EncodeToString(hash[:]), s}, nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// over joins the statistics of trajectories, which all have as many numbers.
func over(records []record) Statistics {
	all := records[0].Statistics
	all.Least, all.Greatest = slices.Clone(all.Least), slices.Clone(all.Greatest)
	all.Mean, all.MeanSquare = make([]float64, len(all.Mean)), make([]float64, len(all.Mean))
	for _, r := range records {
		for c := range all.Mean {
			all.Least[c], all.Greatest[c] = min(all.Least[c], r.Least[c]), max(all.Greatest[c], r.Greatest[c])
			all.Mean[c] += r.Mean[c] / float64(len(records))
			all.MeanSquare[c] += r.MeanSquare[c] / float64(len(records))
		}
	}
	return all
}

// readRecords reads the lines about a family, by trajectory; those of trajectories that are not there have no hash. end is where the last whole line
// ends: a process killed while it wrote leaves a part of one.
func (d Description) readRecords(path string) (records []record, end int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	records = make([]record, d.Trajectories)
	lines := bufio.NewReader(file)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return records, end, nil
		}
		if err != nil {
			return nil, 0, err
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil || !d.suits(r) {
			return nil, 0, fmt.Errorf("line %d is not about a trajectory of this data set", number)
		}
		records[r.Trajectory] = r
		end += int64(len(line))
	}
}

func (d Description) suits(r record) bool {
	if r.Trajectory < 0 || r.Trajectory >= d.Trajectories || len(r.SHA256) != 2*sha256.Size {
		return false
	}
	for _, of := range [][]float64{r.Least, r.Greatest, r.Mean, r.MeanSquare} {
		if len(of) != len(d.Field.Channels) {
			return false
		}
	}
	return true
}

// hash is that of a split: of the hashes of its trajectories.
func (s Split) hash(families [][]record) string {
	all := sha256.New()
	for _, records := range families {
		for _, r := range records[s.First : s.First+s.Count] {
			io.WriteString(all, r.SHA256)
		}
	}
	return hex.EncodeToString(all.Sum(nil))
}
