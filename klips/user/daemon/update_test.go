package daemon_test

import (
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/pfkey"
)

var byAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestGetSPI(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	s := open(t, rundir)
	seen := map[klips.SPI]bool{}
	ascending := true
	var last klips.SPI
	for range 16 {
		r, _ := s.ask(pfkey.GetSPI(said(klips.ProtoESP, 0), local, 0x1000, 0x100f))
		if r.Errno != 0 || r.SA.SPI < 0x1000 || r.SA.SPI > 0x100f || r.SA.State != klips.Larval || seen[r.SA.SPI] {
			t.Fatalf("GETSPI = %v", r)
		}
		ascending = ascending && r.SA.SPI > last
		last = r.SA.SPI
		seen[last] = true
	}
	if ascending {
		t.Error("SPIs come in ascending order, want random ones")
	}
	if r, _ := s.ask(pfkey.GetSPI(said(klips.ProtoESP, 0), local, 0x1000, 0x100f)); r.Errno != syscall.EEXIST {
		t.Errorf("one more than there are: %v", r)
	}
	// Other destinations and protocols have their own SPIs.
	for _, id := range []klips.SAID{{Dst: local, Proto: klips.ProtoESP}, {Dst: peerAddr, Proto: klips.ProtoAH}} {
		if r, _ := s.ask(pfkey.GetSPI(id, peerAddr, 0x1000, 0x1000)); r.Errno != 0 || r.SA.SPI != 0x1000 {
			t.Errorf("GETSPI for %v = %v", id, r)
		}
	}
	if r, _ := s.ask(pfkey.GetSPI(said(klips.ProtoComp, 0), local, 0xffff, 0xffffffff)); r.Errno != 0 || r.SA.SPI != 0xffff {
		t.Errorf("GETSPI of a CPI = %v, want the last that fits a header", r)
	}
	if r, _ := s.ask(pfkey.GetSPI(said(klips.ProtoComp, 0), local, 0x10000, 0xffffffff)); r.Errno != syscall.EEXIST {
		t.Errorf("GETSPI of a CPI = %v, want EEXIST", r)
	}
	for _, m := range []*pfkey.Message{
		pfkey.GetSPI(said(klips.ProtoInt, 0), local, 0x1000, 0x2000),
		pfkey.GetSPI(said(klips.ProtoESP, 0), local, 0x2000, 0x1000),
	} {
		if r, _ := s.ask(m); r.Errno != syscall.EINVAL {
			t.Errorf("%v: %v, want EINVAL", m, r.Errno)
		}
	}

	// A larval SA is listed, and cannot be used.
	l, err := c.SAs(t.Context())
	if err != nil || len(l) != 19 {
		t.Fatalf("%d SAs, %v; want 19", len(l), err)
	}
	for _, sa := range l {
		if sa.State != klips.Larval || sa.Transform != (klips.Transform{}) {
			t.Errorf("%v is %v, %v", sa.ID, sa.State, sa.Transform)
		}
		if want := klips.Outbound; sa.ID.Dst == local && sa.Dir == want || sa.ID.Dst != local && sa.Dir != want {
			t.Errorf("%v: direction %v", sa.ID, sa.Dir)
		}
	}
	if r, _ := s.ask(pfkey.AddSA(espSpec(0x1003, 1))); r.Errno != syscall.EEXIST {
		t.Errorf("ADD of a larval SA: %v, want EEXIST", r.Errno)
	}
	if r, _ := s.ask(pfkey.GetSA(said(klips.ProtoESP, 0x1003))); r.Errno != 0 || r.SA.State != klips.Larval {
		t.Errorf("GET of a larval SA = %v", r)
	}
	if r, _ := s.ask(pfkey.UpdateSA(espSpec(0x1003, 1))); r.Errno != 0 || r.SA.State != klips.Mature || r.SA.Auth != alg.SHA1 {
		t.Errorf("UPDATE of a larval SA = %v", r)
	}
	if r, _ := s.ask(pfkey.DeleteSA(said(klips.ProtoESP, 0x1004))); r.Errno != 0 {
		t.Errorf("DELETE of a larval SA: %v", r.Errno)
	}
	// Its SPI is free again.
	if r, _ := s.ask(pfkey.GetSPI(said(klips.ProtoESP, 0), local, 0x1000, 0x100f)); r.Errno != 0 || r.SA.SPI != 0x1004 {
		t.Errorf("GETSPI = %v, want the SPI that was freed", r)
	}
}

// A pair is two hosts with a tunnel between them, and sockets to both daemons.
type pair struct {
	t            *testing.T
	net          *klipstest.Network
	a, b         klipstest.Client
	sa, sb       *socket
	hostA, hostB *klipstest.Host
	rundirB      string
	send         func(p []byte)
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t, net: new(klipstest.Network)}
	var rundirA string
	rundirA, p.hostA = startOn(t, p.net, local)
	p.rundirB, p.hostB = startOn(t, p.net, peerAddr)
	p.a, p.b = dial(t, rundirA), dial(t, p.rundirB)
	p.sa, p.sb = open(t, rundirA), open(t, p.rundirB)
	p.must(p.b.Attach(t.Context(), "ipsec0", "eth0"))
	p.send = through(t, p.a, p.hostA)
	p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: klips.Selector{Src: netA, Dst: netB}, ID: said(klips.ProtoTun, 0x1001)}, klips.ErouteAdd))
	return p
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// both asks both daemons.
func (p *pair) both(m func() *pfkey.Message) {
	p.t.Helper()
	for _, s := range []*socket{p.sa, p.sb} {
		s.received()
		if r, _ := s.ask(m()); r.Errno != 0 {
			p.t.Fatalf("%v: %v", m(), r.Errno)
		}
	}
}

// arrives sends a packet and reports whether it came out on the other side.
func (p *pair) arrives() bool {
	p.t.Helper()
	before, err := p.b.Devices(p.t.Context())
	p.must(err)
	sent := len(p.net.Sent())
	p.send(udp(netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.2.0.5"), 1, 2))
	if len(p.net.Sent()) == sent {
		return false // it did not leave this side
	}
	arrived := false
	eventually(p.t, "the packet arrived or was counted as dropped", func() bool {
		select {
		case <-p.hostB.Link("ipsec0").Arrived():
			arrived = true
			return true
		default:
		}
		l, err := p.b.Devices(p.t.Context())
		p.must(err)
		return l[0].Stats.RxDropped+l[0].Stats.RxErrors > before[0].Stats.RxDropped+before[0].Stats.RxErrors
	})
	return arrived
}

func TestUpdateKeys(t *testing.T) {
	p := newPair(t)
	for _, spi := range []klips.SPI{0x1001} {
		p.both(func() *pfkey.Message { return pfkey.AddSA(tunSpec(spi)) })
	}
	p.both(func() *pfkey.Message { return pfkey.GetSPI(said(klips.ProtoESP, 0), local, 0x1002, 0x1002) })
	ids := []klips.SAID{said(klips.ProtoTun, 0x1001), said(klips.ProtoESP, 0x1002)}
	p.both(func() *pfkey.Message { return pfkey.GroupPair(ids[0], ids[1]) })
	if p.arrives() {
		t.Error("a packet passed a larval SA")
	}
	p.must(p.b.SetEroute(t.Context(), klips.Eroute{Selector: klips.Selector{Src: netA, Dst: netB}, ID: ids[0]}, klips.ErouteAddIn))
	groups := func(c klipstest.Client) (l [][]klips.SAID) {
		all, err := c.SAs(t.Context())
		p.must(err)
		for _, sa := range all {
			l = append(l, append([]klips.SAID{sa.ID}, sa.Next...))
		}
		return l
	}
	before, beforeB := groups(p.a), groups(p.b)
	first, err := p.a.GetSA(t.Context(), ids[1])
	p.must(err)

	for key := range byte(5) {
		p.both(func() *pfkey.Message { return pfkey.UpdateSA(espSpec(0x1002, key)) })
		for range 3 {
			if !p.arrives() {
				t.Fatalf("key %d: a packet was lost", key)
			}
		}
		sa, err := p.a.GetSA(t.Context(), ids[1])
		p.must(err)
		if sa.Seq != 3 || sa.Life.Packets.Count != 3 || sa.Ref != first.Ref || sa.State != klips.Mature {
			t.Errorf("key %d: seq %d, %d packets, ref %d, state %v", key, sa.Seq, sa.Life.Packets.Count, sa.Ref, sa.State)
		}
		if d := cmp.Diff([][][]klips.SAID{before, beforeB}, [][][]klips.SAID{groups(p.a), groups(p.b)}, byAddr); d != "" {
			t.Errorf("key %d: order or groups changed (-before +after):\n%s", key, d)
		}
	}
	// The policy of the tunnel is still there.
	tun, err := p.b.GetSA(t.Context(), ids[0])
	p.must(err)
	if tun.Policy == nil || tun.Policy.Src != netA {
		t.Errorf("the inbound policy is %v", tun.Policy)
	}
	p.both(func() *pfkey.Message { return pfkey.UpdateSA(tunSpec(0x1001)) })
	if tun, err = p.b.GetSA(t.Context(), ids[0]); err != nil || tun.Policy == nil || tun.Policy.Src != netA {
		t.Errorf("after UPDATE the inbound policy is %v, %v", tun.Policy, err)
	}
	if !p.arrives() {
		t.Error("a packet was lost after an UPDATE of the tunnel")
	}

	// With the same keys, an SA continues its sequence numbers; nothing can be
	// replayed.
	sent := p.net.Sent()
	spec := espSpec(0x1002, 4)
	spec.Hard.Bytes = 1 << 40
	p.both(func() *pfkey.Message { return pfkey.UpdateSA(spec) })
	sa, err := p.a.GetSA(t.Context(), ids[1])
	p.must(err)
	if sa.Seq != 4 || sa.Life.Bytes.Count != 0 || sa.Life.Bytes.Hard != 1<<40 {
		t.Errorf("with the same keys: seq %d, bytes %v", sa.Seq, sa.Life.Bytes)
	}
	wide := espSpec(0x1002, 4)
	wide.Window = 32
	p.both(func() *pfkey.Message { return pfkey.UpdateSA(wide) })
	p.hostB.Arrive(sent[len(sent)-1])
	p.hostB.Arrive(sent[len(sent)-2])
	eventually(t, "replayed packets were dropped", func() bool {
		in, err := p.b.GetSA(t.Context(), ids[1])
		p.must(err)
		return in.ReplayErrs == 2
	})
	if !p.arrives() {
		t.Error("a packet was lost after that")
	}

	// One side has other keys: nothing passes.
	p.sa.received()
	p.sa.ask(pfkey.UpdateSA(espSpec(0x1002, 77)))
	if p.arrives() {
		t.Error("a packet with other keys was taken")
	}
	// A refused update changes nothing.
	bad := pfkey.UpdateSA(espSpec(0x1002, 4))
	bad.KeyEncrypt = &pfkey.Key{Bits: 64, Data: make([]byte, 8)}
	if r, _ := p.sa.ask(bad); r.Errno != syscall.EINVAL {
		t.Errorf("UPDATE with a short key: %v", r.Errno)
	}
	p.sa.ask(pfkey.UpdateSA(espSpec(0x1002, 5)))
	p.sb.received()
	p.sb.ask(pfkey.UpdateSA(espSpec(0x1002, 5)))
	if !p.arrives() {
		t.Error("a packet was lost at the end")
	}
	// Deleting removes the whole group, as always.
	p.both(func() *pfkey.Message { return pfkey.DeleteSA(ids[1]) })
	if l, err := p.a.SAs(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("after DELETE there are %v, %v", l, err)
	}
}

// While one side replaces keys, it loses no packet, and each packet is made with the
// old key or the new one.
func TestUpdateUnderTraffic(t *testing.T) {
	p := newPair(t)
	p.both(func() *pfkey.Message { return pfkey.AddSA(tunSpec(0x1001)) })
	p.both(func() *pfkey.Message { return pfkey.AddSA(espSpec(0x1002, 0)) })
	p.both(func() *pfkey.Message {
		return pfkey.GroupPair(said(klips.ProtoTun, 0x1001), said(klips.ProtoESP, 0x1002))
	})
	packet := udp(netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.2.0.5"), 1, 2)
	const rounds = 200
	for i := range rounds {
		for range 5 {
			p.hostA.Link("ipsec0").Send(packet)
		}
		spec := tunSpec(0x1001)
		if i%2 == 0 {
			spec = espSpec(0x1002, byte(i))
		}
		if r, _ := p.sa.ask(pfkey.UpdateSA(spec)); r.Errno != 0 {
			t.Fatal(r.Errno)
		}
		p.sa.received()
	}
	p.send(packet)
	l, err := p.a.Devices(t.Context())
	p.must(err)
	// The last packet goes to the fence, which drops it.
	if s := l[0].Stats; s.TxPackets != 5*rounds+1 || s.TxErrors != 0 || s.TxDropped != 1 {
		t.Errorf("%+v, want %d packets and no errors", s, 5*rounds+1)
	}
}

func TestUpdatePorts(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	s := open(t, rundir)
	spec := espSpec(0x1002, 1)
	spec.NATT = klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4500}
	s.ask(pfkey.AddSA(tunSpec(0x1001)))
	s.ask(pfkey.AddSA(spec))
	s.ask(pfkey.GroupPair(said(klips.ProtoTun, 0x1001), spec.ID))
	before, err := c.GetSA(t.Context(), spec.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.received()
	r, _ := s.ask(pfkey.UpdatePorts(spec, 5500, 6500))
	if r.Errno != 0 || r.NATTSPort == nil || *r.NATTSPort != 5500 || *r.NATTDPort != 6500 {
		t.Errorf("UPDATE = %v", r)
	}
	after, err := c.GetSA(t.Context(), spec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if want := (klips.NATT{Type: klips.NATTNonESP, SPort: 5500, DPort: 6500}); after.NATT != want {
		t.Errorf("the encapsulation is %+v, want %+v", after.NATT, want)
	}
	after.NATT, after.Life.AddTime = before.NATT, before.Life.AddTime
	if d := cmp.Diff(before, after, byAddr); d != "" {
		t.Errorf("more than the ports changed (-before +after):\n%s", d)
	}
	// One of the two.
	m := pfkey.UpdatePorts(spec, 1234, 0)
	m.NATTDPort = nil
	s.received()
	s.ask(m)
	if after, err = c.GetSA(t.Context(), spec.ID); err != nil || after.NATT.SPort != 1234 || after.NATT.DPort != 6500 {
		t.Errorf("the encapsulation is %+v, %v", after.NATT, err)
	}
	// A whole UPDATE keeps it.
	s.received()
	s.ask(pfkey.UpdateSA(espSpec(0x1002, 2)))
	if after, err = c.GetSA(t.Context(), spec.ID); err != nil || after.NATT.SPort != 1234 || after.NATT.Type != klips.NATTNonESP {
		t.Errorf("the encapsulation is %+v, %v", after.NATT, err)
	}
	l, err := c.SAs(t.Context())
	if err != nil || !slices.ContainsFunc(l, func(sa klips.SA) bool { return slices.Equal(sa.Next, []klips.SAID{spec.ID}) }) {
		t.Errorf("the group is gone: %v, %v", l, err)
	}
	if r, _ := s.ask(pfkey.UpdatePorts(espSpec(0x1003, 1), 1, 2)); r.Errno != syscall.ENOENT {
		t.Errorf("ports of nothing: %v", r.Errno)
	}
}
