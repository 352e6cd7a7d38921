package ranbits

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips/syntax"
)

func TestRanbits(t *testing.T) {
	grouped := regexp.MustCompile(`^0x([0-9a-f]{8}_)*[0-9a-f]{2,8}\n$`)
	plain := regexp.MustCompile(`^0x[0-9a-f]+\n$`)
	for _, c := range []struct {
		args  string
		bytes int
		form  *regexp.Regexp
	}{
		{"1", 1, grouped},
		{"8", 1, grouped},
		{"9", 2, grouped},
		{"32", 4, grouped},
		{"33", 5, grouped},
		{"192", 24, grouped},
		{"20000", 2500, grouped},
		{"--quick 128", 16, grouped},
		{"128 --continuous", 16, plain},
		{"--cont --bytes 16", 16, plain},
		{"--bytes 2500", 2500, grouped},
		{"-- 64", 8, grouped},
	} {
		r := clitest.Run(App(), clitest.World{}, strings.Fields(c.args)...)
		key, err := syntax.ParseKey(strings.TrimSuffix(r.Out, "\n"))
		if r.Status != 0 || r.Err != "" || r.Opened || err != nil || len(key) != c.bytes || !c.form.MatchString(r.Out) {
			t.Errorf("ranbits %s: status %d, %q, %q, stack opened %v; %d bytes, %v, want %d",
				c.args, r.Status, r.Out, r.Err, r.Opened, len(key), err, c.bytes)
		}
	}
	a := clitest.Run(App(), clitest.World{}, "128").Out
	if b := clitest.Run(App(), clitest.World{}, "128").Out; a == b {
		t.Errorf("two calls both printed %q", a)
	}
}

func TestRanbitsErrors(t *testing.T) {
	for args, part := range map[string]string{
		"":             "how many bits",
		"1 2":          "unexpected argument number 2",
		"0":            "at least 1",
		"20001":        "at most 20000",
		"--bytes 2501": "at most 2500",
		"-1":           "unknown option -1",
		"12x":          "'x' is no decimal digit",
		"0x10":         "'x' is no decimal digit",
		"--slow 8":     "unknown option --slow",
	} {
		r := clitest.Run(App(), clitest.World{}, strings.Fields(args)...)
		var usage *cli.UsageError
		if r.Status != cli.ExitUsage || r.Out != "" || !errors.As(r.Error, &usage) || !strings.Contains(r.Err, part) {
			t.Errorf("ranbits %s: status %d, %q, %q, want %q", args, r.Status, r.Out, r.Err, part)
		}
	}
}
