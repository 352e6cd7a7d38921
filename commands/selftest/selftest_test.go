package selftest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/selftest"
)

// TestPassed: the program passes its own tests, and asks no stack for that.
func TestPassed(t *testing.T) {
	r := clitest.Run(App(), clitest.World{})
	if r.Status != 0 || r.Err != "" || r.Opened {
		t.Errorf("status %d, %s, opened %v", r.Status, r.Err, r.Opened)
	}
	clitest.Golden(t, "passed.txt", r.Out)
	r = clitest.Run(App(), clitest.World{}, "--json")
	clitest.GoldenJSON(t, "selftest", "passed", r.Out)
}

// broken returns the tests of the program, one of which expects another packet, as if AES-GCM
// were broken, and one that panics.
func broken() []selftest.Test {
	l := tests()
	for _, v := range esp.Vectors() {
		if v.Source == "draft-mcgrew-gcm-test GCM-256" {
			v.Wire = v.Wire[:len(v.Wire)-1] + "7" // in the ICV, which ends in 6
			l = append(l, selftest.Test{Of: []string{v.Transform.Enc.String()}, Source: "ESP of " + v.Source + ", changed", Check: v.Check})
		}
	}
	return append(l, selftest.Test{Of: []string{alg.Deflate.String()}, Source: "a panic", Check: func() error {
		var none []byte
		_ = none[len(none)]
		return nil
	}})
}

// TestFailed: an algorithm with another result is named, the status is 1, and all others are
// still tested.
func TestFailed(t *testing.T) {
	r := clitest.Run(app(broken), clitest.World{})
	want := "ipsec selftest: aes-gcm, deflate: other results than the known ones; do not use this program on this machine, and compare with another build or machine\n"
	if r.Status != cli.ExitFailed || r.Err != want {
		t.Errorf("status %d, %q, want 1, %q", r.Status, r.Err, want)
	}
	clitest.Golden(t, "failed.txt", r.Out)
	r = clitest.Run(app(broken), clitest.World{}, "--json")
	if r.Status != cli.ExitFailed {
		t.Errorf("--json: status %d", r.Status)
	}
	clitest.GoldenJSON(t, "selftest", "failed", r.Out)
}

func TestRefused(t *testing.T) {
	r := clitest.Run(App(), clitest.World{}, "aes")
	if r.Status != cli.ExitUsage || r.Out != "" || !strings.Contains(r.Err, "unexpected argument") {
		t.Errorf("status %d, %q, %q", r.Status, r.Out, r.Err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run(ctx, tests()); !errors.Is(err, context.Canceled) {
		t.Errorf("run = %v after an interrupt", err)
	}
}
