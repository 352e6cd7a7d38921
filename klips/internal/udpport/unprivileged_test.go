package udpport

import (
	"os"
	"testing"
)

func TestPortStart(t *testing.T) {
	for text, want := range map[string]int{"1024\n": 1024, "0\n": 0, "501\n": 501, "": 1024, "-1\n": 1024, "many\n": 1024} {
		if got := parsePortStart(text); got != want {
			t.Errorf("parsePortStart(%q) = %d, want %d", text, got, want)
		}
	}
	text, err := os.ReadFile(portStart)
	if err != nil {
		text = nil // a kernel without this file, or a container that hides it
	}
	if got, want := Unprivileged(), parsePortStart(string(text)); got != want {
		t.Errorf("Unprivileged() = %d, want %d", got, want)
	}
}
