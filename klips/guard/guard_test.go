package guard

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

var prefix, addr = netip.MustParsePrefix, netip.MustParseAddr

// sel makes a selector; proto and ports are optional.
func sel(src, dst string, rest ...uint16) klips.Selector {
	s := klips.Selector{Src: prefix(src), Dst: prefix(dst)}
	for i, v := range rest {
		switch i {
		case 0:
			s.Proto = uint8(v)
		case 1:
			s.SrcPort = v
		case 2:
			s.DstPort = v
		}
	}
	return s
}

func closed(s klips.Selector) Flow { return Flow{Selector: s} }
func passed(s klips.Selector) Flow { return Flow{Selector: s, Pass: true} }
func inward(f Flow) Flow           { f.In = true; return f }

// TestPass: a passing flow has an effect if it is a part of a closed one, and never
// opens more than that.
func TestPass(t *testing.T) {
	net := sel("10.1.0.0/16", "10.2.0.0/16")
	for name, tt := range map[string]struct {
		pass   Flow
		closed []Flow
		want   bool
	}{
		"narrower":              {passed(sel("10.1.0.0/16", "10.2.3.0/24")), []Flow{closed(net)}, true},
		"narrower by a port":    {passed(sel("10.1.0.0/16", "10.2.0.0/16", 17, 0, 53)), []Flow{closed(net)}, true},
		"the same":              {passed(net), []Flow{closed(net)}, true},
		"another network":       {passed(sel("10.1.0.0/16", "10.3.0.0/16")), []Flow{closed(net)}, false},
		"the other direction":   {inward(passed(sel("10.1.0.0/16", "10.2.3.0/24"))), []Flow{closed(net)}, false},
		"wider":                 {passed(sel("10.0.0.0/8", "10.0.0.0/8")), []Flow{closed(net)}, false},
		"wider and narrower":    {passed(sel("10.1.0.0/16", "10.2.0.0/16")), []Flow{closed(sel("10.1.0.0/16", "10.2.7.0/24")), closed(sel("10.0.0.0/8", "10.0.0.0/8"))}, true},
		"across":                {passed(sel("10.1.7.0/24", "10.0.0.0/8")), []Flow{closed(net)}, false},
		"narrower, and across":  {passed(sel("10.1.7.0/24", "10.2.0.0/16")), []Flow{closed(net), closed(sel("10.1.0.0/16", "10.2.7.0/24"))}, false},
		"narrower, other ports": {passed(sel("10.1.0.0/16", "10.2.0.0/16", 6, 0, 80)), []Flow{closed(sel("10.1.0.0/16", "10.2.0.0/16", 6, 80))}, false},
	} {
		r := Rules{Flows: append([]Flow{tt.pass}, tt.closed...)}.Normal()
		got := false
		for _, f := range r.Flows {
			got = got || f == tt.pass
		}
		if got != tt.want {
			t.Errorf("%s: it passes: %v, want %v", name, got, tt.want)
		}
	}
}

// TestNearSide: a tunnel for everything does not affect traffic within the near side.
func TestNearSide(t *testing.T) {
	for _, all := range []klips.Selector{sel("10.1.0.0/16", "0.0.0.0/0"), sel("fd01::/64", "::/0")} {
		var r Rules
		r.Close(klips.Guard{Selector: all, In: true})
		near := klips.Selector{Src: all.Src, Dst: all.Src}
		want := Rules{Flows: []Flow{passed(near), closed(all), inward(passed(near)), inward(closed(all.Reverse()))}, Ports: []uint16{500, 4500}}
		if got := r.Normal(); !sameRules(got, want) {
			t.Errorf("Normal() = %+v, want %+v", got, want)
		}
	}
}

func sameRules(a, b Rules) bool {
	set := func(l []Flow) map[Flow]bool {
		m := map[Flow]bool{}
		for _, f := range l {
			m[f] = true
		}
		return m
	}
	return reflect.DeepEqual(set(a.Flows), set(b.Flows)) && reflect.DeepEqual(a.Peers, b.Peers) && reflect.DeepEqual(a.Ports, b.Ports)
}

// TestCloseOpen: Open removes exactly what Close has added.
func TestCloseOpen(t *testing.T) {
	var r Rules
	a := klips.Guard{Selector: sel("10.1.0.0/16", "10.2.0.0/16"), In: true, Peer: addr("192.0.2.2")}
	b := klips.Guard{Selector: sel("fd01::/64", "fd02::/64")}
	if r.Close(a) || r.Close(b) || !r.Close(a) || !r.Close(b) {
		t.Errorf("Close reports what was there wrongly; there is %+v", r)
	}
	if got, want := len(r.Flows), 3; got != want {
		t.Errorf("%d flows are closed, want %d", got, want)
	}
	if r.Open(sel("10.1.0.0/16", "10.2.0.0/17")) || !r.Open(a.Selector) || r.Open(a.Selector) || len(r.Flows) != 1 || !r.Closes() {
		t.Errorf("Open leaves %+v", r)
	}
	if !r.Open(b.Selector) || r.Closes() || !reflect.DeepEqual(r.Normal(), Rules{}) {
		t.Errorf("all was opened; there is %+v", r)
	}
	// The same flow by hand and by name is two flows.
	e := klips.Eroute{Selector: b.Selector, ID: klips.SAID{SPI: 0x100, Proto: klips.ProtoESP, Dst: addr("2001:db8::2")}}
	r.ByHand(true, []klips.Eroute{e, {Selector: a.Selector, ID: klips.Magic(klips.SPIPass)}}, []klips.Selector{b.Selector.Reverse()})
	r.Close(b)
	if r.Open(b.Selector); len(r.Flows) != 2 || !r.Flows[0].ByHand || r.Flows[0].In || !r.Flows[1].ByHand || !r.Flows[1].In {
		t.Errorf("opened by name, there is %+v", r)
	}
	if r.ByHand(false, []klips.Eroute{e}, nil); r.Closes() {
		t.Errorf("opened by hand, there is %+v", r)
	}
}

// TestShapes: each name of a set is parsed to its shape, and other names are not
// parsed.
func TestShapes(t *testing.T) {
	for _, f := range []Flow{
		closed(sel("0.0.0.0/0", "0.0.0.0/0")), inward(passed(sel("10.1.0.0/16", "10.2.3.0/24", 17, 5060, 5061))),
		inward(closed(sel("fd01::/64", "::/0", 6, 0, 80))), passed(sel("fd01::1/128", "fd02::/64", 58)),
		{Selector: sel("10.0.0.0/8", "10.2.3.4/32", 6, 80), ByHand: true},
	} {
		s := shapeOf(f)
		if got, ok := parseShape(s.String()); !ok || got != s {
			t.Errorf("parseShape(%s) = %+v, %v, want %+v", s, got, ok, s)
		}
		if got, ok := s.flow(s.key(f.Selector)); !ok || got != f {
			t.Errorf("%s: flow(key) = %+v, %v, want %+v", s, got, ok, f)
		}
	}
	for _, name := range []string{"", "peers4", "ports", "out4", "out4-closed", "out5-closed-1-1", "out4-closed-33-1", "out4-closed-1-33", "in6-pass-129-0",
		"out4-open-1-1", "out4-closed-01-1", "out4-closed--1-1", "out4-closed-1-1-", "out4-closed-1-1-dport-proto", "out4-closed-1-1-mark", "fragments-out4-closed-1-1"} {
		if s, ok := parseShape(name); ok {
			t.Errorf("parseShape(%q) = %+v", name, s)
		}
	}
}

// FuzzShape parses names and keys of sets that other programs may have made.
func FuzzShape(f *testing.F) {
	f.Add("out4-closed-24-16-proto-dport", []byte{10, 1, 2, 0, 10, 2, 0, 0, 17, 0, 0, 0, 0, 53, 0, 0})
	f.Add("in6-pass-64-128-byhand", make([]byte, 32))
	f.Fuzz(func(t *testing.T, name string, key []byte) {
		s, ok := parseShape(name)
		if !ok {
			return
		}
		if s.String() != name {
			t.Fatalf("%q is read as %s", name, s)
		}
		if flow, ok := s.flow(key); ok && shapeOf(flow) != s {
			t.Fatalf("%s: the key %x is of the shape %s", s, key, shapeOf(flow))
		}
	})
}
