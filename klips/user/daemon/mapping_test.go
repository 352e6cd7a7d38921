package daemon_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// When the NAT of a peer chooses another port, the clients that registered for ESP
// receive one message, and other clients none. The SA is then updated.
func TestNewMapping(t *testing.T) {
	p := newPair(t)
	port := uint16(61001)
	add := func() *pfkey.Message {
		spec := espSpec(0x1002, 1)
		spec.NATT = klips.NATT{Type: klips.NATTNonESP, SPort: port, DPort: 4500}
		port = 4500 // the port that B has
		return pfkey.AddSA(spec)
	}
	p.both(add)
	p.both(func() *pfkey.Message { return pfkey.AddSA(tunSpec(0x1001)) })
	p.both(func() *pfkey.Message {
		return pfkey.GroupPair(said(klips.ProtoTun, 0x1001), said(klips.ProtoESP, 0x1002))
	})
	ah := open(t, p.rundirB)
	ah.ask(pfkey.Register(pfkey.SATypeAH))
	none := open(t, p.rundirB)
	p.sb.ask(pfkey.Register(pfkey.SATypeESP))
	for _, s := range []*socket{p.sb, ah, none} {
		s.received()
	}
	for range 3 {
		if !p.arrives() {
			t.Fatal("a packet from another port is lost")
		}
	}
	want := pfkey.NewMapping(said(klips.ProtoESP, 0x1002), netip.AddrPortFrom(local, 4500), netip.AddrPortFrom(local, 61001))
	want.Seq = 1
	if d := cmp.Diff([]string{want.String()}, p.sb.messages()); d != "" {
		t.Errorf("a listener for ESP (-want +got):\n%s", d)
	}
	for _, s := range []*socket{ah, none} {
		if l := s.messages(); len(l) != 0 {
			t.Errorf("a client that did not register for ESP receives %v", l)
		}
	}
	update := pfkey.UpdateSA(espSpec(0x1002, 1))
	update.NATTSPort = new(pfkey.Port(61001))
	if r, _ := p.sb.ask(update); r.Errno != 0 {
		t.Fatalf("UPDATE: %v", r.Errno)
	}
	if !p.arrives() {
		t.Error("after the UPDATE a packet is lost")
	}
	if l := p.sb.messages(); len(l) != 0 {
		t.Errorf("after the UPDATE: %v", l)
	}
}
