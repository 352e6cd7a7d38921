package reopen

import (
	"context"
	"errors"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A named is a stack with a name.
type named struct {
	clitest.Stack
	name string
}

func (n *named) Name() string { return n.name }

// TestOpen: the first stack that is there decides which one is opened.
func TestOpen(t *testing.T) {
	gone := errors.New("it has gone")
	var now *named
	o := New(&cli.Env{Stack: func(context.Context) (klips.Stack, error) {
		if now == nil {
			return nil, gone
		}
		return serial.New(now), nil
	}})
	for _, c := range []struct {
		name string // of the stack that is there
		want string // the error
	}{
		{"", "it has gone"}, {"user", ""}, {"user", ""}, {"", "it has gone"},
		{"xfrm", "stack user has gone; start it again, or restart this command for stack xfrm"}, {"user", ""},
	} {
		now = nil
		if c.name != "" {
			now = &named{name: c.name}
		}
		s, err := o.Open(t.Context())
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			s.Close()
		}
		if got != c.want || now != nil && now.Closed != 1 {
			t.Errorf("stack %q: %q, closed %v, want %q", c.name, got, now, c.want)
		}
	}
}
