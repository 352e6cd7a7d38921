package xfrm

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

var (
	any4 = netip.MustParsePrefix("0.0.0.0/0")
	any6 = netip.MustParsePrefix("::/0")
)

// TestShapeMarks: common shapes of groups have different marks, so that they can share
// a device without inbound policies.
func TestShapeMarks(t *testing.T) {
	var groups [][]klips.Proto
	for _, l := range []string{"esp", "ah", "comp", "esp ah", "comp esp", "comp ah", "comp esp ah", "ah esp", "esp esp", "ah ah"} {
		var g []klips.Proto
		for _, name := range strings.Fields(l) {
			g = append(g, map[string]klips.Proto{"esp": klips.ProtoESP, "ah": klips.ProtoAH, "comp": klips.ProtoComp}[name])
		}
		groups = append(groups, g)
	}
	tunnel := func(g []klips.Proto) (l []member) {
		for i, p := range g {
			m := member{sa: &sa{id: klips.SAID{Proto: p}}}
			if i == 0 {
				m.mode = nlxfrm.ModeTunnel
			}
			l = append(l, m)
		}
		return l
	}
	seen := map[nlxfrm.Mark]string{}
	check := func(l []member) {
		s := shape(l)
		m := shapeMark(s)
		if m.Value == 0 || m.Value&^m.Mask != 0 || m.Mask != markMask {
			t.Errorf("%s: mark %#x/%#x", s, m.Value, m.Mask)
		}
		if seen[m] != "" {
			t.Errorf("%s and %s have the mark %#x", s, seen[m], m.Value)
		}
		seen[m] = s
	}
	for _, g := range groups {
		check(tunnel(g))
		transport := tunnel(g)
		transport[0].mode = nlxfrm.ModeTransport
		check(transport)
	}
	for _, inner := range groups[:2] {
		for _, outer := range groups[:2] {
			check(append(tunnel(inner), tunnel(outer)...))
		}
	}
	if shape(tunnel(groups[0])) != usualShape {
		t.Errorf("the usual shape is %q", shape(tunnel(groups[0])))
	}
}

// TestTransportClosed: packets of an eroute in transport mode are on none of our
// devices. If they cannot be protected, they are dropped on any route: interface ID 0.
func TestTransportClosed(t *testing.T) {
	esp := klips.SAID{Proto: klips.ProtoESP, SPI: 0x100, Dst: there}
	tun := klips.SAID{Proto: klips.ProtoTun, SPI: 0x100, Dst: there}
	attached := []device{{number: 0, ifID: 1, physical: 2}}
	for _, tt := range []struct {
		name    string
		to      klips.SAID
		sa      bool
		devices []device
		want    string // its policies: interface IDs, and those that let packets pass
	}{
		{"protected", esp, true, attached, "[0 allow]"},
		{"no SA", esp, false, attached, "[1 block 0 block]"},
		{"no device", esp, true, nil, "[0 block]"},
		{"no SA and no device", esp, false, nil, "[0 block]"},
		{"a tunnel without an SA", tun, false, attached, "[1 block]"},
		{"a tunnel without a device", tun, false, nil, fmt.Sprintf("[%d block]", uint32(parkRoutes))},
	} {
		tb := newTables()
		tb.local, tb.devices, tb.interfaces = map[netip.Addr]int{here: 2}, tt.devices, func() bool { return true }
		if tt.sa {
			s, err := newSA(&klips.SASpec{ID: esp, Src: here, Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: make([]byte, 20)}, time.Now())
			if err == nil {
				err = tb.addSA(s)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		e := klips.Eroute{Selector: klips.Selector{Src: host(here), Dst: host(there)}, ID: tt.to}
		if err := tb.setEroute(e, klips.ErouteAdd); err != nil {
			t.Fatal(err)
		}
		o, err := tb.compile()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, k := range o.order {
			p := o.policies[k]
			if p.Dir != nlxfrm.DirOut || p.IfID == parkSAs || p.IfID == parkUsers || p.IfID == parkKeys {
				continue
			}
			verdict := "allow"
			if p.Action == nlxfrm.Block {
				verdict = "block"
			}
			got = append(got, fmt.Sprint(p.IfID, " ", verdict))
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%s: policies %v, want %s", tt.name, got, tt.want)
		}
	}
}

// TestBothWays: an SA that serves both directions has one state. With an inbound policy,
// the policies of both directions find it by one reqid.
func TestBothWays(t *testing.T) {
	group := netip.MustParseAddr("ff02::5")
	tb := newTables()
	tb.devices, tb.interfaces = []device{{number: 0, ifID: 1, physical: 2}}, func() bool { return true }
	id := klips.SAID{Proto: klips.ProtoAH, SPI: 0x100, Dst: group}
	s, err := newSA(&klips.SASpec{ID: id, Transform: klips.Transform{Auth: alg.SHA256Trunc}, AuthKey: make([]byte, 32), Src: netip.IPv6Unspecified()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e := klips.Eroute{Selector: klips.Selector{Src: any6, Dst: host(group), Proto: 89}, ID: id}
	for _, err := range []error{tb.addSA(s), tb.setEroute(e, klips.ErouteAdd), tb.setEroute(e, klips.ErouteAddIn)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	o, err := tb.compile()
	if err != nil || len(o.states) != 1 {
		t.Fatalf("%d states, %v", len(o.states), err)
	}
	found := map[nlxfrm.Dir]bool{}
	for _, p := range o.policies {
		if p.IfID == parkSAs || len(p.Templates) == 0 {
			continue
		}
		found[p.Dir] = true
		if got, want := p.Templates[0].ReqID, o.states[s.state.ID].ReqID; got != want {
			t.Errorf("direction %v: reqid %d, want that of the state, %d", p.Dir, got, want)
		}
	}
	if !found[nlxfrm.DirIn] || !found[nlxfrm.DirOut] {
		t.Errorf("policies for the directions %v, want in and out", found)
	}
}
