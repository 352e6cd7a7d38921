package output_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/commands/version"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// full returns an environment with a stack that has records in each table.
func full() clitest.World {
	return clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(&clitest.Full{}) }}
}

// TestGolden: the JSON of applets that print tables, for a stack with records in each
// table and for an empty one. The tests of look, setup and natt are in their packages.
func TestGolden(t *testing.T) {
	for _, app := range []*cli.App{spi.App(), spigrp.App(), eroute.App(), tncfg.App(), klipsdebug.App(), version.App()} {
		for name, w := range map[string]clitest.World{app.Name: full(), app.Name + "-empty": {}} {
			args := []string{"--json"}
			if app.Name == "version" {
				args = append(args, "--abilities")
			}
			r := clitest.Run(app, w, args...)
			if r.Status != 0 {
				t.Errorf("%s --json: status %d, %s", app.Name, r.Status, r.Err)
			}
			clitest.GoldenJSON(t, app.Name, name, r.Out)
		}
	}
	r := clitest.Run(version.App(), clitest.World{StackErr: errors.New("none here")}, "--json")
	clitest.GoldenJSON(t, "version", "version-none", r.Out)
	r = clitest.Run(version.App(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(&mute{}) }}, "--json", "--abilities")
	clitest.GoldenJSON(t, "version", "version-unknown", r.Out)
}

// A mute is a stack whose version and abilities are not known.
type mute struct{ clitest.Full }

func (*mute) Version(context.Context) (string, error)        { return "", errors.New("no version") }
func (*mute) Probe(context.Context) ([]klips.Ability, error) { return nil, errors.New("interrupted") }

// TestRefused: --json works only for listings and cannot be abbreviated. If the stack
// returns an error, nothing is printed.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		app  *cli.App
		line string
		want string
	}{
		{spi.App(), "--json --clear", "--json is for the list of SAs; it does not go with --clear"},
		{spi.App(), "--del --said esp0x100@192.0.2.2 --json", "--json is for the list of SAs; it does not go with --del"},
		{spi.App(), "--json --said esp0x100@192.0.2.2", "nothing to do; give one of --ah, --esp, --comp, --ip4, --ip6, --del, --get and --clear"},
		{spigrp.App(), "--json --said esp0x100@192.0.2.2", "--json is for the list of groups; nothing follows it, not --said"},
		{spigrp.App(), "--said --json", "--json at the place of SA 1: after --said each SA is one word, written like tun0x113@192.0.2.1"},
		{spigrp.App(), "--json --label x", "--json is for the list of groups; nothing follows it, not --label"},
		{eroute.App(), "--clear --json", "--json is for the list of eroutes; it does not go with --clear"},
		{eroute.App(), "--json --src 10.0.0.0/8", "nothing to do; give one of --add, --replace, --addin, --replacein, --del and --clear"},
		{tncfg.App(), "--json --clear", "--json is for the list of devices; it does not go with --clear"},
		{tncfg.App(), "--json --virtual ipsec0", "nothing to do; give one of --attach, --detach, --create, --delete and --clear"},
		{klipsdebug.App(), "--all --json", "--json is for the list of masks; it does not go with --all"},
	} {
		r := clitest.Run(c.app, full(), strings.Fields(c.line)...)
		if want := "ipsec " + c.app.Name + ": " + c.want + "\n"; r.Status != cli.ExitUsage || r.Err != want || r.Out != "" || r.Opened {
			t.Errorf("%s %s: status %d, %q, want %q; printed %q", c.app.Name, c.line, r.Status, r.Err, want, r.Out)
		}
	}
	for _, app := range []*cli.App{spi.App(), spigrp.App(), eroute.App(), tncfg.App(), klipsdebug.App(), version.App()} {
		if r := clitest.Run(app, full(), "--js"); r.Status != cli.ExitUsage || r.Opened {
			t.Errorf("%s --js: status %d, want the option in full only", app.Name, r.Status)
		}
		if r := clitest.Run(app, full(), "--help"); !strings.Contains(r.Out, "--json") || !strings.Contains(r.Out, "ipsec_json(5)") {
			t.Errorf("%s --help has no --json:\n%s", app.Name, r.Out)
		}
	}
	for _, app := range []*cli.App{spi.App(), spigrp.App(), eroute.App(), tncfg.App(), klipsdebug.App()} {
		if r := clitest.Run(app, clitest.World{Stack: &clitest.Stack{ListErr: syscall.EPERM}}, "--json"); r.Status != cli.ExitFailed || r.Out != "" {
			t.Errorf("%s --json without rights: status %d, printed %q", app.Name, r.Status, r.Out)
		}
	}
}

// A partial is a stack whose unreadable lines cannot be fetched.
type partial struct{ clitest.Full }

func (*partial) Unread(context.Context, ...string) ([]klips.UnreadLine, error) {
	return nil, &klips.OpError{Op: "list", Err: syscall.EPERM}
}

// TestPartial: a list that may be incomplete is not printed.
func TestPartial(t *testing.T) {
	r := clitest.Run(eroute.App(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(&partial{}) }}, "--json")
	if r.Status != cli.ExitFailed || r.Out != "" || !strings.Contains(r.Err, "eroutes: cannot be listed: not permitted") {
		t.Errorf("status %d, %q, printed %q", r.Status, r.Err, r.Out)
	}
}
