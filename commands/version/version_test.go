package version

import (
	"errors"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
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
