package main

import (
	"encoding/json"
	"os"
	"runtime"
)

// A result is what -json writes: the figures of a run, and the machine that they are of.
type result struct {
	Machine string   `json:"machine"`
	CPUs    int      `json:"cpus"`
	Go      string   `json:"go"`
	Linux   string   `json:"linux"`
	Figures []figure `json:"figures"`
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

func writeJSON(file string) error {
	b, err := json.MarshalIndent(result{cpuName(), runtime.NumCPU(), runtime.Version(), release(), measured}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
