package version

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

func TestVersion(t *testing.T) {
	for _, c := range []struct {
		args   []string
		err    error // of opening the stack
		status int
		out    string
		opened bool
	}{
		{nil, nil, 0, "ipsec 1.2.3\nstack klips: Openswan version: test\n" +
			"chosen because it is the first of user, klips, xfrm that is there\n", true},
		{nil, errors.New("none here"), 0, "ipsec 1.2.3\nno stack: none here\n", true},
		{[]string{"--version"}, nil, 0, "ipsec version 1.2.3\n", false},
		{[]string{"now"}, nil, cli.ExitUsage, "", false},
	} {
		stack := new(clitest.Stack)
		r := clitest.Run(App(), clitest.World{Stack: stack, StackErr: c.err}, c.args...)
		if r.Status != c.status || r.Out != c.out || r.Opened != c.opened {
			t.Errorf("version %q: status %d, %q, opened %v, want %d, %q, %v", c.args, r.Status, r.Out, r.Opened, c.status, c.out, c.opened)
		}
		if c.opened && c.err == nil && stack.Closed != 1 {
			t.Errorf("the stack was closed %d times", stack.Closed)
		}
	}
}

// A prober is a stack that counts how often it finds out what it can do.
type prober struct {
	clitest.Full
	probes int
}

func (p *prober) Probe(ctx context.Context) ([]klips.Ability, error) {
	p.probes++
	return p.Full.Probe(ctx)
}

// TestAbilities: a stack tests its abilities only if --abilities asks for them, because a
// kernel needs seconds for that.
func TestAbilities(t *testing.T) {
	const head, abilities = "chosen because", "it has esp over IPv4\nit lacks ah over IPv6: no module ah6\n"
	for _, c := range []struct {
		args   []string
		probes int
		out    string
	}{
		{nil, 0, head},
		{[]string{"--json"}, 0, `"component":"stack"`},
		{[]string{"--abilities"}, 1, abilities},
		{[]string{"--json", "--abilities"}, 1, `"missing":"no module ah6"`},
	} {
		p := new(prober)
		r := clitest.Run(App(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(p) }}, c.args...)
		if out := strings.ReplaceAll(r.Out, `": "`, `":"`); r.Status != 0 || p.probes != c.probes || !strings.Contains(out, c.out) {
			t.Errorf("version %q: status %d, %d probes, want %d; printed %q, want %q in it", c.args, r.Status, p.probes, c.probes, r.Out, c.out)
		}
		if has := strings.Contains(r.Out, "ah6"); has != (c.probes > 0) {
			t.Errorf("version %q prints abilities: %v", c.args, has)
		}
	}
}
