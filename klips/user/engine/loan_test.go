package engine_test

import (
	"bytes"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// newLoanPair makes a pair with a group in each direction.
func newLoanPair(t *testing.T) *pair {
	p := newPair(t)
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", p.makeGroup([]layer{tun, gcm}, gwA4, gwB4, 64), klips.ErouteAdd)
	p.route(p.b, "10.2.0.0/16", "10.1.0.0/16", p.makeGroup([]layer{tun, gcm}, gwB4, gwA4, 64), klips.ErouteAdd)
	return p
}

// aToB and bToA send n packets, one after the other, and check that each arrives.
func (p *pair) aToB(n int) { p.t.Helper(); p.each(n, p.ha, p.hb, ip(inA4, inB4, packet.ProtoUDP, 100)) }
func (p *pair) bToA(n int) { p.t.Helper(); p.each(n, p.hb, p.ha, ip(inB4, inA4, packet.ProtoUDP, 100)) }

func (p *pair) each(n int, from, to *klipstest.Host, text []byte) {
	p.t.Helper()
	for range n {
		from.Link("ipsec0").Send(text)
		if got := arrives(p.t, to); !bytes.Equal(got, text) {
			p.t.Fatalf("%x arrived, want %x", got, text)
		}
	}
}

// bothWays sends packets until both hosts have lent their inbound workers.
func (p *pair) bothWays() {
	p.t.Helper()
	for range 70 {
		p.aToB(1)
		p.bToA(1)
	}
	p.wantLent(true)
}

func (p *pair) wantLent(want bool) {
	p.t.Helper()
	p.ha.Settle()
	p.hb.Settle()
	for name, e := range map[string]*engine.Engine{"a": p.a, "b": p.b} {
		if got := e.Lent(); got != want {
			p.t.Fatalf("%s has lent its inbound worker: %v, want %v", name, got, want)
		}
	}
}

// The inbound worker is lent while there are few packets in both directions, and packets
// pass as before.
func TestLoan(t *testing.T) {
	p := newLoanPair(t)
	p.wantLent(false)
	p.bothWays()
	p.aToB(200)
	p.wantLent(false)
	p.bothWays()
	p.bToA(200)
	p.wantLent(false)
	p.bothWays()
	p.wantNoneLate()
}

// A device that is deleted gives the inbound worker back. Another device then gets it.
func TestLoanOfDeletedDevice(t *testing.T) {
	p := newLoanPair(t)
	p.bothWays()
	p.must(p.b.DeleteDevice(t.Context(), "ipsec0"))
	if p.b.Lent() {
		t.Error("the inbound worker is still lent")
	}
	p.must(p.b.CreateDevice(t.Context(), "ipsec0"))
	p.must(p.b.Attach(t.Context(), "ipsec0", "eth0"))
	p.bothWays()
}

// While a worker waits because its device is full, packets that arrive do not wait for it.
func TestLoanWithFullDevice(t *testing.T) {
	p := newLoanPair(t)
	p.bothWays()
	empty := p.ha.Fill("eth0")
	text := ip(inA4, inB4, packet.ProtoUDP, 100)
	p.ha.Link("ipsec0").Send(text)
	p.bToA(100)
	if p.a.Lent() {
		t.Error("the inbound worker is lent to a goroutine that waits")
	}
	empty()
	if got := arrives(t, p.hb); !bytes.Equal(got, text) {
		t.Errorf("%x arrived, want %x", got, text)
	}
	p.bothWays()
}

// A closed engine waits for no goroutine.
func TestLoanAtClose(t *testing.T) {
	p := newLoanPair(t)
	p.bothWays()
	for _, e := range []*engine.Engine{p.a, p.b} {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
