package dataset

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/symaudit/symaudit/orbits"
)

// fieldText is a field in JSON, where channels are named.
type fieldText struct {
	Channels      []string   `json:"channels"`
	Vectors       [][]string `json:"vectors,omitempty"`
	Pseudoscalars []string   `json:"pseudoscalars,omitempty"`
	Pseudovectors [][]string `json:"pseudovectors,omitempty"`
	Conserved     *conserved `json:"conserved,omitempty"`
	Rows          string     `json:"rows"` // where y grows: "up", with +y, or "down", as in an image
}

type conserved struct {
	Density  string   `json:"density"`
	Momentum []string `json:"momentum"`
	Energy   string   `json:"energy"`
}

// plain is a description without methods.
type plain Description

// MarshalJSON implements json.Marshaler.
func (d Description) MarshalJSON() ([]byte, error) {
	f := d.Field
	name := func(channel int) string { return f.Channels[channel] }
	names := func(channels []int) (all []string) {
		for _, c := range channels {
			all = append(all, name(c))
		}
		return all
	}
	of := fieldText{Channels: f.Channels, Pseudoscalars: names(f.Pseudoscalars), Rows: "up"}
	for _, vector := range f.Vectors {
		of.Vectors = append(of.Vectors, names(vector))
	}
	for _, vector := range f.Pseudovectors {
		of.Pseudovectors = append(of.Pseudovectors, names(vector))
	}
	if c := f.Conserved; c != nil {
		of.Conserved = &conserved{name(c.Density), names(c.Momentum), name(c.Energy)}
	}
	if f.RowDown {
		of.Rows = "down"
	}
	return json.Marshal(struct {
		plain
		Field fieldText `json:"field"`
	}{plain(d), of})
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Description) UnmarshalJSON(source []byte) error {
	var read struct {
		plain
		Field fieldText `json:"field"`
	}
	if err := json.Unmarshal(source, &read); err != nil {
		return err
	}
	of := read.Field
	f := orbits.Field{Channels: of.Channels}
	var unknown error
	index := func(name string) int {
		i := slices.Index(of.Channels, name)
		if i < 0 {
			unknown = fmt.Errorf("its field speaks of the channel %q, which is none of %q", name, of.Channels)
		}
		return i
	}
	indices := func(names []string) (all []int) {
		for _, name := range names {
			all = append(all, index(name))
		}
		return all
	}
	f.Pseudoscalars = indices(of.Pseudoscalars)
	for _, vector := range of.Vectors {
		f.Vectors = append(f.Vectors, indices(vector))
	}
	for _, vector := range of.Pseudovectors {
		f.Pseudovectors = append(f.Pseudovectors, indices(vector))
	}
	if c := of.Conserved; c != nil {
		f.Conserved = &orbits.Conserved{Density: index(c.Density), Momentum: indices(c.Momentum), Energy: index(c.Energy)}
	}
	if of.Rows != "up" && of.Rows != "down" {
		return fmt.Errorf("its rows run %q; they must run \"up\", with +y, or \"down\"", of.Rows)
	}
	f.RowDown = of.Rows == "down"
	*d = Description(read.plain)
	d.Field = f
	return unknown
}
