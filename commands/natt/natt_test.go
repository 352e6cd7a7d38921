package natt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

func TestParse(t *testing.T) {
	got, err := parse([]string{"4500", "500", "0x1194", "65535"})
	if want := []uint16{4500, 500, 0x1194}; err == nil || got != nil {
		t.Errorf("parse of one port in two forms = %v, %v, want an error, not %v", got, err, want)
	}
	got, err = parse([]string{"4500", "500", "0x2000", "65535", "1"})
	if want := []uint16{4500, 500, 0x2000, 65535, 1}; err != nil || !slices.Equal(got, want) {
		t.Errorf("parse = %v, %v, want %v", got, err, want)
	}
	for _, word := range []string{"0", "65536", "-1", "", "isakmp", "4500x", "4500/udp"} {
		var usage *cli.UsageError
		if got, err := parse([]string{"4500", word}); !errors.As(err, &usage) || got != nil {
			t.Errorf("parse(%q) = %v, %v, want a UsageError", word, got, err)
		}
	}
}

// A holder is a kernel's stack that holds ports of this host.
type holder struct {
	clitest.Stack
	err error // of a port
	ip4 bool  // the host has no IPv6
	log []string
}

func (s *holder) HoldPort(_ context.Context, port uint16, form klips.NATTType) (onlyIPv4 bool, err error) {
	if s.err != nil {
		return false, s.err
	}
	s.log = append(s.log, fmt.Sprintf("hold %d %d", port, form))
	return s.ip4, nil
}

func (*holder) PortTaken(context.Context, uint16) (bool, error) { return false, nil }

func (s *holder) Close() error {
	s.log = append(s.log, "close")
	return s.Stack.Close()
}

func on(s serial.Doer, args ...string) clitest.Result {
	return clitest.Run(App(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(s) }}, args...)
}

// TestOtherStacks: only a kernel's stack needs the command.
func TestOtherStacks(t *testing.T) {
	s := &clitest.Stack{}
	r := on(s)
	if want := "ipsec natt: stack klips opens the ports of its SAs itself; this is for the stacks xfrm and klips (--stack)\n"; r.Status != cli.ExitFailed || r.Err != want || r.Out != "" || s.Closed != 1 {
		t.Errorf("natt on a stack that holds no ports: status %d, %q, want %q", r.Status, r.Err, want)
	}
	for _, args := range [][]string{{"70000"}, {"4500", "4500"}, {"--nosuch"}} {
		if r := on(&holder{}, args...); r.Status != cli.ExitUsage || r.Opened || r.Out != "" {
			t.Errorf("natt %q: status %d, opened %v, %q", args, r.Status, r.Opened, r.Out)
		}
	}
}

// TestRefused: the error names the port that cannot be held, with the reason in words,
// and no port is listed as held.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&klips.OpError{Op: "open UDP port", Err: syscall.EADDRINUSE, Reason: "another program has it"}, "ipsec natt: UDP port 500: another program has it\n"},
		{&klips.OpError{Op: "open UDP port", Err: syscall.EPERM}, "ipsec natt: UDP port 500: not permitted"},
	} {
		s := &holder{err: tt.err}
		if r := on(s, "500"); r.Status != cli.ExitFailed || r.Out != "" || !strings.HasPrefix(r.Err, tt.want) || s.Closed != 1 {
			t.Errorf("natt with %v: status %d, %q, %q, want %q", tt.err, r.Status, r.Out, r.Err, tt.want)
		}
	}
}

// TestHold: the ports are held, in the requested form, until a signal arrives.
func TestHold(t *testing.T) {
	for _, tt := range []struct {
		args, out, log string
		ip4            bool
	}{
		{"", "receiving ESP on UDP port 4500\n", "hold 4500 2; close", false},
		{"--nonike 500", "receiving ESP on UDP port 500, for IPv4 only\n", "hold 500 1; close", true},
		{"1 2", "receiving ESP on UDP port 1\nreceiving ESP on UDP port 2\n", "hold 1 2; hold 2 2; close", false},
	} {
		s := &holder{ip4: tt.ip4}
		ctx, cancel := context.WithCancel(t.Context())
		var out, errs bytes.Buffer
		env := &cli.Env{Name: "ipsec natt", Err: &errs, Getenv: func(string) string { return "" },
			Out:   writer(func(b []byte) (int, error) { cancel(); return out.Write(b) }), // like an interrupt at this time
			Stack: func(context.Context) (klips.Stack, error) { return serial.New(s), nil }}
		err := App().Run(ctx, env, strings.Fields(tt.args))
		if log := strings.Join(s.log, "; "); err != nil || out.String() != tt.out || errs.Len() != 0 || log != tt.log {
			t.Errorf("natt %s: %v, %q, %q, %s; want %q, %s", tt.args, err, out.String(), errs.String(), log, tt.out, tt.log)
		}
	}
}

// TestGolden: the JSON of held ports.
func TestGolden(t *testing.T) {
	for name, tt := range map[string]struct {
		args string
		ip4  bool
	}{
		"ports":  {"--json 4500 500", false},
		"nonike": {"--nonike --json", true},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var out bytes.Buffer
		env := &cli.Env{Name: "ipsec natt", Err: io.Discard, Getenv: func(string) string { return "" },
			Out:   writer(func(b []byte) (int, error) { cancel(); return out.Write(b) }), // like an interrupt at this time
			Stack: func(context.Context) (klips.Stack, error) { return serial.New(&holder{ip4: tt.ip4}), nil }}
		if err := App().Run(ctx, env, strings.Fields(tt.args)); err != nil {
			t.Errorf("natt %s: %v", tt.args, err)
		}
		clitest.GoldenJSON(t, "natt", name, out.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
