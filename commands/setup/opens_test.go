package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A table holds the routes of a host, in the form "10.2.0.0/16 ipsec0".
type table struct {
	routes []string
	err    error
}

func (tb *table) each(f func(dst netip.Prefix, device string)) {
	for _, r := range tb.routes {
		dst, device, _ := strings.Cut(r, " ")
		f(netip.MustParsePrefix(dst), device)
	}
}

func (tb *table) into() (list []netip.Prefix, err error) {
	tb.each(func(dst netip.Prefix, device string) {
		if strings.HasPrefix(device, "ipsec") {
			list = append(list, dst)
		}
	})
	return list, tb.err
}

func (tb *table) exit(dst netip.Prefix) (device string, err error) {
	bits := -1
	tb.each(func(p netip.Prefix, d string) {
		if p.Overlaps(dst) && p.Bits() <= dst.Bits() && p.Bits() > bits {
			bits, device = p.Bits(), d
		}
	})
	return device, tb.err
}

// TestOpening: each network that an action opens has a note of one line, and no other
// network has one.
func TestOpening(t *testing.T) {
	many := "10.2.0.0/24 ipsec0;10.3.0.0/24 ipsec0;10.4.0.0/24 ipsec0;10.5.0.0/24 ipsec0"
	line := func(what string) string { return "ipsec setup: note: " + what + " can leave in clear now\n" }
	three := line("10.2.0.0/24") + line("10.3.0.0/24") + line("10.4.0.0/24")
	for _, tt := range []struct {
		name, before, after string
		held                string
		want                string
	}{
		{"nothing routed", "0.0.0.0/0 eth0", "0.0.0.0/0 eth0", "", ""},
		{"by the default route", "0.0.0.0/0 eth0;10.2.0.0/24 ipsec0", "0.0.0.0/0 eth0", "", line("10.2.0.0/24")},
		{"IPv6", "::/0 eth0;fd02::/64 ipsec0", "::/0 eth0", "", line("fd02::/64")},
		{"no other route", "10.2.0.0/24 ipsec0;10.9.0.0/16 eth0", "10.9.0.0/16 eth0", "", ""},
		{"the routes stay", "0.0.0.0/0 eth0;10.2.0.0/24 ipsec0", "0.0.0.0/0 eth0;10.2.0.0/24 ipsec0", "", ""},
		{"everything", "0.0.0.0/0 eth0;0.0.0.0/1 ipsec0;128.0.0.0/1 ipsec0", "0.0.0.0/0 eth0", "", line("0.0.0.0/1") + line("128.0.0.0/1")},
		{"twice", "0.0.0.0/0 eth0;10.2.0.0/24 ipsec0;10.2.0.0/24 ipsec1", "0.0.0.0/0 eth0", "", line("10.2.0.0/24")},
		{"four", "0.0.0.0/0 eth0;" + many, "0.0.0.0/0 eth0", "", three + line("10.5.0.0/24")},
		{"five", "0.0.0.0/0 eth0;" + many + ";10.6.0.0/24 ipsec0", "0.0.0.0/0 eth0", "", three + "ipsec setup: note: and 2 more networks can leave in clear now\n"},
		{"a stack that needs no route", "0.0.0.0/0 eth0", "0.0.0.0/0 eth0", "192.0.2.2/32", line("192.0.2.2/32")},
	} {
		for _, failure := range []error{nil, errors.New("not stopped")} {
			var errs bytes.Buffer
			env := &cli.Env{Name: "ipsec setup", Err: &errs}
			tb := &table{routes: strings.Split(tt.before, ";")}
			var held []netip.Prefix
			if tt.held != "" {
				held = append(held, netip.MustParsePrefix(tt.held))
			}
			err := opening(t.Context(), env, tb, held, func(context.Context) error {
				tb.routes = strings.Split(tt.after, ";")
				return failure
			})
			if err != failure || errs.String() != tt.want {
				t.Errorf("%s: %v, %swant %v, %s", tt.name, err, errs.String(), failure, tt.want)
			}
		}
	}
	// A host whose routes cannot be read is stopped too.
	done := false
	var errs bytes.Buffer
	err := opening(t.Context(), &cli.Env{Err: &errs}, &table{err: errors.New("no netlink")}, nil, func(context.Context) error { done = true; return nil })
	if err != nil || !done || errs.Len() != 0 {
		t.Errorf("without routes: %v, %v, %s", err, done, errs.String())
	}
}

// An eroutesStack has eroutes, and a device for transport mode if device is set.
type eroutesStack struct {
	clitest.Stack
	eroutes []klips.Eroute
	device  bool
}

func (s *eroutesStack) Eroutes(context.Context) ([]klips.Eroute, error) { return s.eroutes, nil }
func (s *eroutesStack) Has(c klips.Capability) bool                     { return c == klips.CapTransportDevice && s.device }

// TestHeld: the stack protects transport mode without a route into a virtual device, if
// it has no device for transport mode.
func TestHeld(t *testing.T) {
	var list []klips.Eroute
	for dst, id := range map[string]string{"192.0.2.2/32": "esp0x200@192.0.2.2", "10.2.0.0/24": "tun0x300@192.0.2.2", "10.3.0.0/24": "%pass"} {
		said, err := syntax.ParseSAID(id, nil)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/24"), Dst: netip.MustParsePrefix(dst)}, ID: said})
	}
	for device, want := range map[bool]string{true: "[]", false: "[192.0.2.2/32]"} {
		s := &eroutesStack{eroutes: list, device: device}
		k := kernel{env: &cli.Env{Stack: func(context.Context) (klips.Stack, error) { return serial.New(s), nil }}}
		if got := fmt.Sprint(k.held(t.Context())); got != want {
			t.Errorf("with a device for transport mode %v: held %s, want %s", device, got, want)
		}
	}
}
