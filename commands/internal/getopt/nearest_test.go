package getopt

import "testing"

func TestNearest(t *testing.T) {
	names := []string{"spi", "spigrp", "eroute", "tncfg", "klipsdebug", "klipsd", "version"}
	for name, want := range map[string]string{
		"spigroup": "spigrp", "eruote": "eroute", "sip": "spi", "spj": "spi", "klip": "klipsd",
		"klipsdebu": "klipsdebug", "ver": "version", "e": "eroute", "auto": "", "": "", "s": "",
		"tncgf": "tncfg", "SPIGRP": "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": "",
	} {
		if got := Nearest(name, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
