package main

import (
	"encoding/json"
	"os"
	"slices"
)

// A result is what -json writes: the figures of a run, and the machine that they are of.
type result struct {
	Machine string   `json:"machine"` // its processor
	CPUs    int      `json:"cpus"`
	Go      string   `json:"go"`
	Linux   string   `json:"linux"`
	Packets []series `json:"packets,omitempty"` // by row, then by contender
	Figures []figure `json:"figures,omitempty"` // of the embedded stack alone
}

// A series is what was measured for one contender in one row.
type series struct {
	Row       string `json:"row"`       // a word of -rows
	Title     string `json:"title"`     // the row in words
	Unit      string `json:"unit"`      // of all values
	Contender string `json:"contender"` // a word of -contenders
	Name      string `json:"name"`      // the contender in words

	Rounds []float64 `json:"rounds"` // the value of each round, in their order
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`

	// Ratio is the median of the ratios to wireguard-go's value of the same round; nil if
	// wireguard-go has none.
	Ratio *float64 `json:"ratio,omitempty"`
}

// A figure is a measured value.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // "" for a ratio
}

// measured are the figures up to now.
var measured []figure

// note notes a figure for -json.
func note(name string, value float64, unit string) {
	measured = append(measured, figure{name, value, unit})
}

func (r *result) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// summarize sets the figures that follow from Rounds, which is not empty. base are the
// rounds of wireguard-go.
func (s *series) summarize(base []float64) {
	s.Median, s.Min, s.Max = median(s.Rounds), slices.Min(s.Rounds), slices.Max(s.Rounds)
	var ratios []float64
	for i := range min(len(s.Rounds), len(base)) {
		if base[i] != 0 {
			ratios = append(ratios, s.Rounds[i]/base[i])
		}
	}
	s.Ratio = nil
	if len(ratios) > 0 {
		m := median(ratios)
		s.Ratio = &m
	}
}

// median returns the middle value, or the mean of both middle ones. v is not empty.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
