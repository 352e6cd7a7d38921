package natt

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
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

// A named is a stack of a given name.
type named struct {
	clitest.Stack
	name string
}

func (s *named) Name() string { return s.name }

func on(name string, args ...string) (clitest.Result, *named) {
	s := &named{name: name}
	return clitest.Run(App(), clitest.World{Wrap: func(klips.Stack) klips.Stack { return s }}, args...), s
}

// Only the kernel's stack needs the command; the others refuse it and say why.
func TestOtherStacks(t *testing.T) {
	for name, want := range map[string]string{
		"user":  "ipsec natt: stack user opens the ports of its SAs itself; this is for stack xfrm (--stack)\n",
		"klips": "ipsec natt: this is for stack xfrm (--stack), not for klips\n",
	} {
		r, s := on(name)
		if r.Status != cli.ExitFailed || r.Err != want || r.Out != "" || s.Closed != 1 {
			t.Errorf("natt on %s: status %d, %q, want %q", name, r.Status, r.Err, want)
		}
	}
	for _, args := range [][]string{{"70000"}, {"4500", "4500"}, {"--nosuch"}} {
		if r, _ := on("xfrm", args...); r.Status != cli.ExitUsage || r.Opened || r.Out != "" {
			t.Errorf("natt %q: status %d, opened %v, %q", args, r.Status, r.Opened, r.Out)
		}
	}
}

// A port that another program has is named, with the reason in words, and nothing
// is said to be held.
func TestTaken(t *testing.T) {
	c, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	port := c.LocalAddr().(*net.UDPAddr).Port
	r, _ := on("xfrm", fmt.Sprint(port))
	if r.Status != cli.ExitFailed || r.Out != "" || !strings.HasPrefix(r.Err, fmt.Sprintf("ipsec natt: UDP port %d: ", port)) {
		t.Fatalf("natt with a port in use: status %d, %q, %q", r.Status, r.Out, r.Err)
	}
	reason := strings.TrimSuffix(r.Err[strings.LastIndex(r.Err, fmt.Sprintf("%d: ", port)):], "\n")
	for _, bare := range []string{"address already in use", "protocol not available"} {
		if strings.Contains(reason, bare) {
			t.Errorf("%q has the errno's own words", r.Err)
		}
	}
}
