package klipstest

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A Bench is a fresh stack to test, on a host that has a physical device.
type Bench struct {
	Stack    klips.Stack
	Local    netip.Addr // an address of the host
	Physical string     // the name of its physical device, MTU 1500
	// Count makes ipsec0 count something while it is attached, and returns its counters
	// from a source other than the stack. nil: no packet can get into the devices.
	Count func(t *testing.T) klips.DeviceStats
}

// TestStack runs the contract suite. open makes a fresh stack, with two
// unattached devices ipsec0 and ipsec1, for each test.
func TestStack(t *testing.T, open func(t *testing.T) Bench) {
	for _, c := range []struct {
		name string
		test func(*contract)
	}{
		{"AddAndListSAs", (*contract).addAndList},
		{"AddRefusals", (*contract).addRefusals},
		{"DeleteSA", (*contract).deleteSA},
		{"ClearSAs", (*contract).clearSAs},
		{"Group", (*contract).group},
		{"GroupIsAllOrNothing", (*contract).groupAtomic},
		{"GroupRefusals", (*contract).groupRefusals},
		{"InboundGroup", (*contract).inboundGroup},
		{"JoinGroups", (*contract).joinGroups},
		{"ReadGroup", (*contract).readGroup},
		{"Ungroup", (*contract).ungroup},
		{"Eroutes", (*contract).eroutes},
		{"ErouteRefusals", (*contract).erouteRefusals},
		{"InboundPolicy", (*contract).inboundPolicy},
		{"Devices", (*contract).devices},
		{"DeviceRefusals", (*contract).deviceRefusals},
		{"Counters", (*contract).counters},
		{"Ages", (*contract).ages},
		{"Debug", (*contract).debug},
		{"Knobs", (*contract).knobs},
		{"NothingToDo", (*contract).nothingToDo},
		{"AEAD", (*contract).aead},
		{"one key, one sender", (*contract).oneKey},
		{"LargeWindow", (*contract).largeWindow},
		{"ESN", (*contract).esn},
		{"sequence numbers", (*contract).seq},
		{"Offload", (*contract).offload},
		{"copied TOS", (*contract).copyTOS},
		{"keys", (*contract).keys},
		{"Version", (*contract).version},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			c.test(&contract{t, b, serial.Calls{Stack: b.Stack}, t.Context()})
		})
	}
}

type contract struct {
	*testing.T
	Bench
	Stack serial.Calls
	ctx   context.Context
}

var peer = netip.MustParseAddr("192.0.2.77")

func said(p klips.Proto, spi klips.SPI, dst netip.Addr) klips.SAID {
	return klips.SAID{Dst: dst, SPI: spi, Proto: p}
}

func key(n int) []byte {
	k := make([]byte, n)
	for i := range k {
		k[i] = byte(i + 1)
	}
	return k
}

// spec returns a usable SA of a protocol.
func (c *contract) spec(id klips.SAID) *klips.SASpec {
	s := &klips.SASpec{ID: id, Src: c.Local}
	if id.Dst == c.Local {
		s.Src = peer
	}
	if id.Dst.Is6() {
		s.Src = netip.MustParseAddr("2001:db8::1")
	}
	switch id.Proto {
	case klips.ProtoESP:
		s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.AES, key(16), alg.SHA1, key(20)
	case klips.ProtoAH:
		s.Auth, s.AuthKey = alg.MD5, key(16)
	case klips.ProtoComp:
		s.Comp = alg.Deflate
	}
	return s
}

func (c *contract) add(ids ...klips.SAID) {
	c.Helper()
	for _, id := range ids {
		if err := c.Stack.AddSA(c.ctx, c.spec(id)); err != nil {
			c.Fatalf("AddSA(%v) = %v", id, err)
		}
	}
}

// wants checks that an operation was refused with an errno, as an *OpError.
func (c *contract) wants(what string, err error, want syscall.Errno) {
	c.Helper()
	var op *klips.OpError
	if !errors.Is(err, want) || !errors.As(err, &op) {
		c.Errorf("%s = %v, want *OpError with %v", what, err, want)
	}
}

func (c *contract) sas() []klips.SA {
	c.Helper()
	l, err := c.Stack.SAs(c.ctx)
	if err != nil {
		c.Fatalf("SAs = %v", err)
	}
	return l
}

// groups returns the groups as in the spigrp listing.
func (c *contract) groups() map[klips.SAID][]klips.SAID {
	c.Helper()
	m := map[klips.SAID][]klips.SAID{}
	for _, sa := range c.sas() {
		m[sa.ID] = sa.Next
	}
	return m
}

func (c *contract) sameGroups(want map[klips.SAID][]klips.SAID) {
	c.Helper()
	if d := cmp.Diff(want, c.groups(), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		c.Errorf("groups differ (-want +got):\n%s", d)
	}
}

func (c *contract) addAndList() {
	ids := []klips.SAID{
		said(klips.ProtoESP, 0x200, netip.MustParseAddr("10.0.0.2")),
		said(klips.ProtoAH, 0x200, netip.MustParseAddr("10.0.0.2")),
		said(klips.ProtoTun, 0x200, netip.MustParseAddr("10.0.0.2")),
		said(klips.ProtoComp, 0x201, netip.MustParseAddr("10.0.0.2")),
		said(klips.ProtoESP, 0x100, netip.MustParseAddr("2001:db8::2")),
		said(klips.ProtoESP, 0x300, c.Local),
	}
	c.add(ids...)
	got := c.sas()
	var order []klips.SAID
	for _, sa := range got {
		order = append(order, sa.ID)
		dir := klips.Outbound
		if sa.ID.Dst == c.Local {
			dir = klips.Inbound
		}
		if sa.Dir != dir || sa.State != klips.Mature || len(sa.Next) != 0 || sa.Ref == 0 {
			c.Errorf("%v: dir %v, state %v, next %v, ref %v", sa.ID, sa.Dir, sa.State, sa.Next, sa.Ref)
		}
		spec := c.spec(sa.ID)
		if sa.Transform != spec.Transform || sa.AuthKeyBits != 8*len(spec.AuthKey) || sa.EncKeyBits != 8*len(spec.EncKey) {
			c.Errorf("%v: %v with keys of %d and %d bits", sa.ID, sa.Transform, sa.AuthKeyBits, sa.EncKeyBits)
		}
	}
	want := slices.Clone(ids)
	slices.Reverse(want) // newest first within a bucket
	slices.SortStableFunc(want, func(a, b klips.SAID) int { return klips.Bucket(a) - klips.Bucket(b) })
	if !slices.Equal(order, want) {
		c.Errorf("listed in order %v, want %v", order, want)
	}
	one, err := c.Stack.GetSA(c.ctx, ids[0])
	if err != nil || one.ID != ids[0] {
		c.Errorf("GetSA = %v, %v", one.ID, err)
	}
	_, err = c.Stack.GetSA(c.ctx, said(klips.ProtoESP, 0x999, peer))
	c.wants("GetSA of none", err, syscall.ESRCH)
}

func (c *contract) addRefusals() {
	id := said(klips.ProtoESP, 0x500, peer)
	c.add(id)
	c.wants("AddSA twice", c.Stack.AddSA(c.ctx, c.spec(id)), syscall.EEXIST)
	for _, r := range []struct {
		name string
		edit func(*klips.SASpec)
		want syscall.Errno
	}{
		{"SPI below 0x100", func(s *klips.SASpec) { s.ID.SPI = 0xff }, syscall.EINVAL},
		{"short encryption key", func(s *klips.SASpec) { s.EncKey = key(15) }, syscall.EINVAL},
		{"long authentication key", func(s *klips.SASpec) { s.AuthKey = key(21) }, syscall.EINVAL},
		{"no cipher", func(s *klips.SASpec) { s.Enc, s.EncKey = 0, nil }, syscall.EINVAL},
		{"null cipher alone", func(s *klips.SASpec) { s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.Null, nil, 0, nil }, syscall.EINVAL},
		{"unknown cipher", func(s *klips.SASpec) { s.Enc = 99 }, syscall.EPROTO},
		{"unknown authentication", func(s *klips.SASpec) { s.Auth = 99 }, syscall.EINVAL},
		{"magic", func(s *klips.SASpec) { s.ID = klips.Magic(klips.SPITrap) }, syscall.EINVAL},
		{"AH without a key", func(s *klips.SASpec) {
			s.ID.Proto, s.Enc, s.EncKey, s.AuthKey = klips.ProtoAH, 0, nil, nil
		}, syscall.EINVAL},
	} {
		s := c.spec(said(klips.ProtoESP, 0x501, peer))
		r.edit(s)
		c.wants(r.name, c.Stack.AddSA(c.ctx, s), r.want)
	}
	if n := len(c.sas()); n != 1 {
		c.Errorf("%d SAs after refusals, want 1", n)
	}
}

func (c *contract) deleteSA() {
	a, b, o := said(klips.ProtoTun, 0x1000, peer), said(klips.ProtoESP, 0x1001, peer), said(klips.ProtoESP, 0x1002, peer)
	c.add(a, b, o)
	c.must(c.Stack.Group(c.ctx, []klips.SAID{a, b}))
	c.must(c.Stack.DeleteSA(c.ctx, b))
	c.sameGroups(map[klips.SAID][]klips.SAID{o: nil}) // the whole group was removed
	c.wants("DeleteSA again", c.Stack.DeleteSA(c.ctx, b), syscall.ESRCH)
	c.wants("DeleteSA of the other member", c.Stack.DeleteSA(c.ctx, a), syscall.ESRCH)
	c.add(a, b)
	c.sameGroups(map[klips.SAID][]klips.SAID{a: nil, b: nil, o: nil})
}

func (c *contract) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *contract) clearSAs() {
	c.add(said(klips.ProtoTun, 0x1000, peer), said(klips.ProtoESP, 0x1001, peer), said(klips.ProtoComp, 0x1002, peer))
	c.must(c.Stack.SetEroute(c.ctx, route("10.1.0.0/16", "10.2.0.0/16", said(klips.ProtoESP, 0x1001, peer)), klips.ErouteAdd))
	c.must(c.Stack.ClearSAs(c.ctx))
	c.must(c.Stack.ClearSAs(c.ctx))
	if n := len(c.sas()); n != 0 {
		c.Errorf("%d SAs left", n)
	}
	if l, err := c.Stack.Eroutes(c.ctx); err != nil || len(l) != 1 {
		c.Errorf("Eroutes = %v, %v; want the one", l, err)
	}
}

func (c *contract) group() {
	t, m, e, a := said(klips.ProtoTun, 0x113, peer), said(klips.ProtoComp, 0x114, peer), said(klips.ProtoESP, 0x115, peer), said(klips.ProtoAH, 0x116, peer)
	c.add(t, m, e, a)
	c.must(c.Stack.Group(c.ctx, []klips.SAID{t, m, e, a}))
	c.sameGroups(map[klips.SAID][]klips.SAID{t: {m, e, a}, m: {e, a}, e: {a}, a: nil})
}

func (c *contract) groupAtomic() {
	t, e, a := said(klips.ProtoTun, 0x113, peer), said(klips.ProtoESP, 0x115, peer), said(klips.ProtoAH, 0x116, peer)
	c.add(t, e)
	c.wants("Group with the last missing", c.Stack.Group(c.ctx, []klips.SAID{t, e, a}), syscall.ENOENT)
	c.sameGroups(map[klips.SAID][]klips.SAID{t: nil, e: nil})
	c.add(a)
	o := said(klips.ProtoESP, 0x200, peer)
	c.add(o)
	c.must(c.Stack.Group(c.ctx, []klips.SAID{o, a}))
	c.wants("Group with the last taken", c.Stack.Group(c.ctx, []klips.SAID{t, e, a}), syscall.EEXIST)
	c.sameGroups(map[klips.SAID][]klips.SAID{t: nil, e: nil, o: {a}, a: nil})
}

func (c *contract) groupRefusals() {
	x, y, z := said(klips.ProtoTun, 0x1000, peer), said(klips.ProtoESP, 0x1001, peer), said(klips.ProtoAH, 0x1002, peer)
	missing := said(klips.ProtoAH, 0x9999, peer)
	c.add(x, y, z)
	c.blames("Group(x, x)", c.Stack.Group(c.ctx, []klips.SAID{x, x}), syscall.EEXIST, x)
	c.must(c.Stack.Group(c.ctx, []klips.SAID{x, y}))
	c.blames("Group(x, y) again", c.Stack.Group(c.ctx, []klips.SAID{x, y}), syscall.EEXIST, x)
	c.blames("Group(x, z)", c.Stack.Group(c.ctx, []klips.SAID{x, z}), syscall.EEXIST, x)
	c.blames("Group(z, y): two before y", c.Stack.Group(c.ctx, []klips.SAID{z, y}), syscall.EEXIST, y)
	c.blames("Group(y, x): a loop", c.Stack.Group(c.ctx, []klips.SAID{y, x}), syscall.EEXIST, x)
	c.blames("Group with a missing SA", c.Stack.Group(c.ctx, []klips.SAID{y, missing}), syscall.ENOENT, missing)
	c.blames("Group with a missing SA first", c.Stack.Group(c.ctx, []klips.SAID{missing, z}), syscall.ENOENT, missing)
	c.blames("Group of none that exists", c.Stack.Group(c.ctx, []klips.SAID{missing, said(klips.ProtoESP, 0x9999, peer)}), syscall.ENOENT, missing)
	c.sameGroups(map[klips.SAID][]klips.SAID{x: {y}, y: nil, z: nil})

	// Of an inbound pair the outer SA comes first.
	in := [...]klips.SAID{said(klips.ProtoTun, 0x2000, c.Local), said(klips.ProtoESP, 0x2001, c.Local), said(klips.ProtoAH, 0x2002, c.Local)}
	c.add(in[:]...)
	c.must(c.Stack.Group(c.ctx, in[:2]))
	c.blames("Group(in0, in2): two before in0", c.Stack.Group(c.ctx, []klips.SAID{in[0], in[2]}), syscall.EEXIST, in[0])
	c.blames("Group(in2, in1): in1 has a follower", c.Stack.Group(c.ctx, []klips.SAID{in[2], in[1]}), syscall.EEXIST, in[1])
	c.blames("Group(in1, in0): a loop", c.Stack.Group(c.ctx, []klips.SAID{in[1], in[0]}), syscall.EEXIST, in[1])
}

// blames checks that a group was refused, and that the error names the SA at
// fault.
func (c *contract) blames(what string, err error, want syscall.Errno, id klips.SAID) {
	c.Helper()
	c.wants(what, err, want)
	if op := (*klips.OpError)(nil); errors.As(err, &op) && op.Object != id.String() {
		c.Errorf("%s = %v, want it to name %v", what, err, id)
	}
}

func (c *contract) inboundGroup() {
	t, e, a := said(klips.ProtoTun, 0x113, c.Local), said(klips.ProtoESP, 0x115, c.Local), said(klips.ProtoAH, 0x116, c.Local)
	c.add(t, e, a)
	c.must(c.Stack.Group(c.ctx, []klips.SAID{t, e, a})) // the same names, processed in the other order
	c.sameGroups(map[klips.SAID][]klips.SAID{a: {e, t}, e: {t}, t: nil})
}

func (c *contract) joinGroups() {
	t1, e1 := said(klips.ProtoTun, 0x1001, peer), said(klips.ProtoESP, 0x1001, peer)
	t2, e2 := said(klips.ProtoTun, 0x1002, peer), said(klips.ProtoESP, 0x1002, peer)
	c.add(t1, e1, t2, e2)
	c.must(c.Stack.Group(c.ctx, []klips.SAID{t1, e1}))
	c.must(c.Stack.Group(c.ctx, []klips.SAID{t2, e2}))
	c.must(c.Stack.Group(c.ctx, []klips.SAID{e1, t2}))
	c.sameGroups(map[klips.SAID][]klips.SAID{t1: {e1, t2, e2}, e1: {t2, e2}, t2: {e2}, e2: nil})
}

func (c *contract) readGroup() {
	t, e, a := said(klips.ProtoTun, 0x113, peer), said(klips.ProtoESP, 0x115, peer), said(klips.ProtoAH, 0x116, peer)
	tin, ein := said(klips.ProtoTun, 0x113, c.Local), said(klips.ProtoESP, 0x115, c.Local)
	alone := said(klips.ProtoESP, 0x200, peer)
	c.add(t, e, a, tin, ein, alone)
	c.must(c.Stack.Group(c.ctx, []klips.SAID{t, e, a}))
	c.must(c.Stack.Group(c.ctx, []klips.SAID{tin, ein}))
	for id, want := range map[klips.SAID][]klips.SAID{t: {t, e, a}, e: {t, e, a}, a: {t, e, a}, tin: {ein, tin}, ein: {ein, tin}, alone: {alone}} {
		group, err := klips.ReadGroup(c.ctx, c.Stack, id)
		var got []klips.SAID
		for _, sa := range group {
			got = append(got, sa.ID)
			if inbound := sa.ID.Dst == c.Local; inbound != (sa.Dir == klips.Inbound) {
				c.Errorf("ReadGroup(%v): direction of %v is %v", id, sa.ID, sa.Dir)
			}
		}
		if err != nil || !slices.Equal(got, want) {
			c.Errorf("ReadGroup(%v) = %v, %v, want %v", id, got, err, want)
		}
	}
	_, err := klips.ReadGroup(c.ctx, c.Stack, said(klips.ProtoESP, 0x999, peer))
	c.wants("ReadGroup of none", err, syscall.ESRCH)
}

func (c *contract) ungroup() {
	// Ungrouping works with any member. KLIPS counts ungrouping, so each round has its
	// own SAs.
	for i := range 3 {
		spi := klips.SPI(0x1000 * (i + 1))
		ids := []klips.SAID{said(klips.ProtoTun, spi, peer), said(klips.ProtoESP, spi, peer), said(klips.ProtoAH, spi, peer)}
		in := []klips.SAID{said(klips.ProtoTun, spi, c.Local), said(klips.ProtoESP, spi, c.Local), said(klips.ProtoAH, spi, c.Local)}
		apart := map[klips.SAID][]klips.SAID{}
		for _, ids := range [][]klips.SAID{ids, in} {
			c.add(ids...)
			c.must(c.Stack.Group(c.ctx, ids))
			c.must(c.Stack.Ungroup(c.ctx, ids[i]))
			for _, id := range ids {
				apart[id] = nil
			}
		}
		c.sameGroups(apart)
		c.must(c.Stack.Ungroup(c.ctx, ids[1])) // it has no group now
		c.must(c.Stack.ClearSAs(c.ctx))
	}
	c.wants("Ungroup of none", c.Stack.Ungroup(c.ctx, said(klips.ProtoESP, 0x999, peer)), syscall.ENOENT)
}

func route(src, dst string, id klips.SAID) klips.Eroute {
	return klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}, ID: id}
}

func (c *contract) eroutes() {
	id := said(klips.ProtoTun, 0x1000, peer) // need not exist
	pass := route("0.0.0.0/0", "0.0.0.0/0", c.magic(klips.SPIPass, klips.CapPass))
	port := route("10.1.0.0/16", "10.2.0.0/16", id)
	port.Proto, port.DstPort = 6, 80
	want := []klips.Eroute{
		pass,
		route("10.1.0.0/16", "10.2.0.0/16", id),
		port,
		route("10.1.0.0/16", "10.2.5.0/24", klips.Magic(klips.SPIDrop)),
		route("2001:db8:1::/48", "2001:db8:2::/48", id),
	}
	for _, i := range []int{4, 2, 0, 3, 1} {
		c.must(c.Stack.SetEroute(c.ctx, want[i], klips.ErouteAdd))
	}
	c.sameEroutes(want)
	want[1].ID = c.magic(klips.SPIReject, klips.CapReject)
	c.must(c.Stack.SetEroute(c.ctx, want[1], klips.ErouteReplace))
	c.sameEroutes(want)
	fresh := route("10.9.0.0/16", "10.2.0.0/16", id)
	// Replacing adds a missing eroute; KLIPS refuses it.
	if err := c.Stack.SetEroute(c.ctx, fresh, klips.ErouteReplace); err == nil {
		c.must(c.Stack.DeleteEroute(c.ctx, fresh.Selector))
	} else {
		c.wants("SetEroute in place of none", err, syscall.EFAULT)
		c.sameEroutes(want)
	}
	c.must(c.Stack.DeleteEroute(c.ctx, want[2].Selector))
	want = slices.Delete(want, 2, 3)
	c.sameEroutes(want)
	if c.Stack.Has(klips.CapAlso) {
		want[1].ID, want[1].Also = id, further(2)
		c.must(c.Stack.SetEroute(c.ctx, want[1], klips.ErouteReplace))
		c.sameEroutes(want)
		want[1].Also = further(klips.MaxAlso)
		c.must(c.Stack.SetEroute(c.ctx, want[1], klips.ErouteReplace))
		c.sameEroutes(want)
		want[1].Also = nil
		c.must(c.Stack.SetEroute(c.ctx, want[1], klips.ErouteReplace))
		c.sameEroutes(want)
	}
	c.must(c.Stack.ClearEroutes(c.ctx))
	c.must(c.Stack.ClearEroutes(c.ctx))
	c.sameEroutes(nil)
}

// further returns n further SAs of an eroute, which need not exist. Their order is not that
// of their SPIs.
func further(n int) (ids []klips.SAID) {
	for i := range n {
		ids = append(ids, said([]klips.Proto{klips.ProtoESP, klips.ProtoTun}[i%2], klips.SPI(0x1100+n-i), peer))
	}
	return ids
}

// wantsFault checks an error with a fault.
func (c *contract) wantsFault(what string, err error, errno syscall.Errno, fault klips.Fault) {
	c.Helper()
	c.wants(what, err, errno)
	var oe *klips.OpError
	if errors.As(err, &oe); oe == nil || oe.Fault != fault {
		c.Errorf("%s = %v, want the fault %v", what, err, fault)
	}
}

// magic returns a shunt, or %drop if the stack lacks that kind and refuses it.
func (c *contract) magic(spi klips.SPI, needs klips.Capability) klips.SAID {
	if c.Stack.Has(needs) {
		return klips.Magic(spi)
	}
	r := route("10.3.0.0/16", "10.4.0.0/16", klips.Magic(spi))
	c.wants("SetEroute to "+r.ID.String(), c.Stack.SetEroute(c.ctx, r, klips.ErouteAdd), syscall.EOPNOTSUPP)
	return klips.Magic(klips.SPIDrop)
}

func (c *contract) sameEroutes(want []klips.Eroute) {
	c.Helper()
	got, err := c.Stack.Eroutes(c.ctx)
	if err != nil {
		c.Fatalf("Eroutes = %v", err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(klips.Eroute{}, "PID"),
		cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
		c.Errorf("eroutes differ (-want +got):\n%s", d)
	}
}

func (c *contract) erouteRefusals() {
	r := route("10.1.0.0/16", "10.2.0.0/16", said(klips.ProtoTun, 0x1000, peer))
	c.must(c.Stack.SetEroute(c.ctx, r, klips.ErouteAdd))
	c.wants("SetEroute twice", c.Stack.SetEroute(c.ctx, r, klips.ErouteAdd), syscall.EEXIST)
	spread := route("10.3.0.0/16", "10.4.0.0/16", r.ID)
	spread.Also = further(2)
	if !c.Stack.Has(klips.CapAlso) {
		c.wantsFault("SetEroute with further SAs", c.Stack.SetEroute(c.ctx, spread, klips.ErouteAdd), syscall.EOPNOTSUPP, klips.FaultAlso)
		c.wantsFault("SetEroute with further SAs in place of another", c.Stack.SetEroute(c.ctx, spread, klips.ErouteReplace), syscall.EOPNOTSUPP, klips.FaultAlso)
	}
	for fault, also := range map[klips.Fault][]klips.SAID{
		klips.FaultAlsoMany:  further(klips.MaxAlso + 1),
		klips.FaultAlsoShunt: {further(1)[0], klips.Magic(klips.SPIDrop)},
		klips.FaultAlsoPeer:  {further(1)[0], said(klips.ProtoTun, 0x1001, c.Local)},
		klips.FaultAlsoTwice: {further(1)[0], r.ID},
	} {
		spread.Also = also
		c.wantsFault("SetEroute with wrong further SAs", c.Stack.SetEroute(c.ctx, spread, klips.ErouteAdd), syscall.EINVAL, fault)
	}
	spread.ID, spread.Also = klips.Magic(klips.SPIDrop), further(1)
	c.wantsFault("SetEroute of a shunt and an SA", c.Stack.SetEroute(c.ctx, spread, klips.ErouteAdd), syscall.EINVAL, klips.FaultAlsoShunt)
	c.sameEroutes([]klips.Eroute{r})
	longer := route("10.1.0.0/16", "10.2.0.0/17", r.ID) // has the same addresses
	for _, none := range []klips.Eroute{route("10.1.0.0/16", "10.0.0.0/8", r.ID), longer} {
		if err := c.Stack.DeleteEroute(c.ctx, none.Selector); !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EFAULT) {
			c.Errorf("DeleteEroute of none = %v", err)
		}
		c.sameEroutes([]klips.Eroute{r})
	}
	// Replacing adds a missing eroute; KLIPS refuses it.
	if err := c.Stack.SetEroute(c.ctx, longer, klips.ErouteReplace); err != nil {
		c.wants("SetEroute in place of none with this mask", err, syscall.ENOENT)
		c.must(c.Stack.SetEroute(c.ctx, longer, klips.ErouteAdd))
	}
	c.sameEroutes([]klips.Eroute{longer, r})
	c.must(c.Stack.DeleteEroute(c.ctx, r.Selector))
	c.sameEroutes([]klips.Eroute{longer})
}

func (c *contract) inboundPolicy() {
	t, e := said(klips.ProtoTun, 0x1000, c.Local), said(klips.ProtoESP, 0x1001, c.Local)
	r := route("10.2.0.0/16", "10.1.0.0/16", e)
	c.wants("AddIn without SA", c.Stack.SetEroute(c.ctx, r, klips.ErouteAddIn), syscall.ENOENT)
	c.add(t, e)
	if !c.Stack.Has(klips.CapTransportPolicy) {
		c.wants("AddIn without tun SA", c.Stack.SetEroute(c.ctx, r, klips.ErouteAddIn), syscall.ENOENT)
	}
	c.must(c.Stack.Group(c.ctx, []klips.SAID{t, e}))
	c.must(c.Stack.SetEroute(c.ctx, r, klips.ErouteAddIn)) // finds it after the ESP SA
	r.ID = t
	c.must(c.Stack.SetEroute(c.ctx, r, klips.ErouteReplaceIn))
	c.must(c.Stack.SetEroute(c.ctx, r, klips.ErouteAddIn))
	sa, err := c.Stack.GetSA(c.ctx, t)
	if err != nil || sa.Policy == nil || sa.Policy.Src != r.Src || sa.Policy.Dst != r.Dst || sa.Flags&klips.FlagInFlow == 0 {
		c.Errorf("GetSA = policy %v, flags %#x, %v", sa.Policy, sa.Flags, err)
	}
	c.sameEroutes(nil) // an inbound policy is not an eroute
	c.transportPolicy()
}

// transportPolicy: an SA in transport mode has an inbound policy with a complete
// selector; in a group the innermost SA has it.
func (c *contract) transportPolicy() {
	e, a := said(klips.ProtoESP, 0x1101, c.Local), said(klips.ProtoAH, 0x1102, c.Local)
	c.add(e, a)
	c.must(c.Stack.Group(c.ctx, []klips.SAID{e, a}))
	r := route("192.0.2.77/32", c.Local.String()+"/32", a)
	r.Proto, r.SrcPort, r.DstPort = 17, 1000, 7
	if !c.Stack.Has(klips.CapTransportPolicy) {
		c.wants("AddIn in transport mode", c.Stack.SetEroute(c.ctx, r, klips.ErouteAddIn), syscall.ENOENT)
		return
	}
	policy := func(id klips.SAID) *klips.InboundPolicy {
		sa, err := c.Stack.GetSA(c.ctx, id)
		if err != nil || (sa.Policy != nil) != (sa.Flags&klips.FlagInFlow != 0) {
			c.Errorf("GetSA(%v) = policy %v, flags %#x, %v", id, sa.Policy, sa.Flags, err)
		}
		return sa.Policy
	}
	c.must(c.Stack.SetEroute(c.ctx, r, klips.ErouteAddIn)) // finds the innermost
	if got := policy(e); got == nil || *got != r.Selector {
		c.Errorf("the policy of %v is %v, want %v", e, got, r.Selector)
	}
	if got := policy(a); got != nil {
		c.Errorf("the policy of %v, which is not the innermost, is %v", a, got)
	}
	r.ID, r.DstPort = e, 9
	c.must(c.Stack.SetEroute(c.ctx, r, klips.ErouteReplaceIn))
	if got := policy(e); got == nil || *got != r.Selector {
		c.Errorf("in its place the policy of %v is %v, want %v", e, got, r.Selector)
	}
	other := route("2001:db8:1::/48", "2001:db8:2::/48", e)
	c.wants("AddIn of another family", c.Stack.SetEroute(c.ctx, other, klips.ErouteAddIn), syscall.EINVAL)
	c.must(c.Stack.DeleteSA(c.ctx, e))
	c.add(e)
	if got := policy(e); got != nil {
		c.Errorf("the policy of %v, which was made anew, is %v", e, got)
	}
}

func (c *contract) devices() {
	c.sameDevices([]klips.Device{{Name: "ipsec0"}, {Name: "ipsec1"}})
	c.must(c.Stack.Attach(c.ctx, "ipsec0", c.Physical))
	on := klips.Device{Name: "ipsec0", Physical: c.Physical, MTU: klips.DeviceMTU, AttMTU: 1500, PhysMTU: 1500}
	c.sameDevices([]klips.Device{on, {Name: "ipsec1"}})
	c.must(c.Stack.Attach(c.ctx, "ipsec1", c.Physical)) // two on one physical device
	c.must(c.Stack.Detach(c.ctx, "ipsec0"))
	off := klips.Device{Name: "ipsec0", MTU: klips.DeviceMTU}
	on.Name = "ipsec1"
	c.sameDevices([]klips.Device{off, on})
	c.must(c.Stack.DetachAll(c.ctx))
	c.must(c.Stack.DetachAll(c.ctx))
	c.must(c.Stack.CreateDevice(c.ctx, "ipsec7"))
	off1 := klips.Device{Name: "ipsec1", MTU: klips.DeviceMTU}
	c.sameDevices([]klips.Device{off, off1, {Name: "ipsec7"}})
	c.must(c.Stack.DeleteDevice(c.ctx, "ipsec7"))
	c.sameDevices([]klips.Device{off, off1})
	if !c.Stack.Has(klips.CapDirect) {
		return
	}
	c.must(c.Stack.AttachDirect(c.ctx, "ipsec1", c.Physical))
	on.Direct = true
	c.sameDevices([]klips.Device{off, on})
	c.must(c.Stack.Detach(c.ctx, "ipsec1"))
	c.sameDevices([]klips.Device{off, off1})
}

func (c *contract) sameDevices(want []klips.Device) {
	c.Helper()
	got, err := c.Stack.Devices(c.ctx)
	if err != nil {
		c.Fatalf("Devices = %v", err)
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(klips.Device{}, "Stats")); d != "" {
		c.Errorf("devices differ (-want +got):\n%s", d)
	}
}

// counters: Devices returns what the devices have counted.
func (c *contract) counters() {
	c.must(c.Stack.Attach(c.ctx, "ipsec0", c.Physical))
	var want klips.DeviceStats
	if c.Count != nil {
		if want = c.Count(c.T); want == (klips.DeviceStats{}) {
			c.Fatal("the bench has counted nothing")
		}
	}
	got, err := c.Stack.Devices(c.ctx)
	if err != nil || len(got) != 2 {
		c.Fatalf("Devices = %v, %v", got, err)
	}
	if d := cmp.Diff([]klips.DeviceStats{want, {}}, []klips.DeviceStats{got[0].Stats, got[1].Stats}); d != "" {
		c.Errorf("the counters of ipsec0 and ipsec1 differ (-want +got):\n%s", d)
	}
}

// ages: the times of an SA are elapsed seconds, not clock values.
func (c *contract) ages() {
	id := said(klips.ProtoESP, 0x200, peer)
	start := time.Now()
	c.add(id)
	one, err := c.Stack.GetSA(c.ctx, id)
	if err != nil {
		c.Fatal(err)
	}
	all := c.sas()
	// A stack that counts whole seconds of a clock can be one ahead.
	most := uint64(time.Since(start)/time.Second) + 1
	for from, sa := range map[string]klips.SA{"GetSA": one, "SAs": all[0]} {
		if sa.ID != id || sa.Life.AddTime.Count > most || sa.Life.UseTime.Count != 0 || sa.Used {
			c.Errorf("%s: %v was made %d s and used %d s ago, want at most %d s and 0 s", from, sa.ID, sa.Life.AddTime.Count, sa.Life.UseTime.Count, most)
		}
	}
}

func (c *contract) deviceRefusals() {
	c.wants("Attach nothing", c.Stack.Attach(c.ctx, "ipsec9", c.Physical), syscall.ENODEV)
	c.wants("Attach to nothing", c.Stack.Attach(c.ctx, "ipsec0", "nosuch0"), syscall.ENXIO)
	c.must(c.Stack.Attach(c.ctx, "ipsec0", c.Physical))
	c.wants("Attach twice", c.Stack.Attach(c.ctx, "ipsec0", c.Physical), syscall.EBUSY)
	if !c.Stack.Has(klips.CapDirect) {
		c.wantsFault("AttachDirect", c.Stack.AttachDirect(c.ctx, "ipsec1", c.Physical), syscall.EOPNOTSUPP, klips.FaultDirect)
	}
	c.wants("Detach unattached", c.Stack.Detach(c.ctx, "ipsec1"), syscall.ENODEV)
	c.wants("Detach nothing", c.Stack.Detach(c.ctx, "ipsec9"), syscall.ENODEV)
	c.wants("CreateDevice again", c.Stack.CreateDevice(c.ctx, "ipsec1"), syscall.EEXIST)
	c.wants("CreateDevice 64", c.Stack.CreateDevice(c.ctx, "ipsec64"), syscall.ENOENT)
	c.wants("DeleteDevice of none", c.Stack.DeleteDevice(c.ctx, "ipsec9"), syscall.ENOENT)
}

func (c *contract) debug() {
	var m klips.Debug
	m[klips.DebugESP], m[klips.DebugVerbose] = 0xffffffff, 1
	if !c.Stack.Has(klips.CapDebug) {
		c.must(c.Stack.SetDebug(c.ctx, klips.DebugChange{})) // none is set, so there is none to clear
		c.must(c.Stack.SetDebug(c.ctx, klips.DebugChange{Set: true}))
		c.wants("SetDebug", c.Stack.SetDebug(c.ctx, klips.DebugChange{Set: true, Masks: m}), syscall.EOPNOTSUPP)
		return
	}
	c.must(c.Stack.SetDebug(c.ctx, klips.DebugChange{Set: true, Masks: m}))
	for i := range m {
		m[i] = 0xffffffff
	}
	m[klips.DebugESP] = 0xf
	c.must(c.Stack.SetDebug(c.ctx, klips.DebugChange{Masks: m}))
	d, err := c.Stack.Debug(c.ctx)
	if err != nil || d[klips.DebugESP] != 0xf || d[klips.DebugAH] != 0 {
		c.Errorf("Debug = %x, %v", d, err)
	}
}

// knobs: Set changes one knob, and of several all or none.
func (c *contract) knobs() {
	s := c.Stack
	if !s.Has(klips.CapKnobs) {
		c.wants("Set", s.Set(c.ctx, map[string]int{"icmp": 1}), syscall.EOPNOTSUPP)
		return
	}
	read := func() map[string]int {
		c.Helper()
		list, err := s.Knobs(c.ctx)
		c.must(err)
		m := map[string]int{}
		for _, k := range list {
			m[k.Name] = k.Value
		}
		return m
	}
	want := read()
	same := func(what string) {
		c.Helper()
		if got := read(); !maps.Equal(got, want) {
			c.Errorf("knobs after %s: %v, want %v", what, got, want)
		}
	}
	for _, name := range []string{"icmp", "inbound_policy_check", "tos"} {
		if _, ok := want[name]; !ok {
			c.Errorf("there is no knob %s: %v", name, want)
			continue
		}
		for range 2 {
			want[name] = 1 - want[name]
			c.must(s.Set(c.ctx, map[string]int{name: want[name]}))
			same("a change of " + name)
		}
	}
	c.wants("Set of none", s.Set(c.ctx, map[string]int{"icmp": 1 - want["icmp"], "none": 1}), syscall.ENOENT)
	same("a knob that is not there")
	c.wants("Set to 2", s.Set(c.ctx, map[string]int{"icmp": 1 - want["icmp"], "tos": 2}), syscall.EINVAL)
	same("a value that is none")
}

// nothingToDo: a change to the present state succeeds. So scripts can stop a stack
// without checking first.
func (c *contract) nothingToDo() {
	alone := said(klips.ProtoESP, 0x100, peer)
	c.add(alone)
	c.must(c.Stack.Ungroup(c.ctx, alone))
	for range 2 {
		c.must(c.Stack.ClearEroutes(c.ctx))
		c.must(c.Stack.ClearSAs(c.ctx))
		c.must(c.Stack.DetachAll(c.ctx))
		c.must(c.Stack.SetDebug(c.ctx, klips.DebugChange{}))
	}
}

func (c *contract) aead() {
	s := c.spec(said(klips.ProtoESP, 0x1000, peer))
	s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.AESGCM, key(20), 0, nil
	err := c.Stack.AddSA(c.ctx, s)
	if c.Stack.Has(klips.CapAEAD) != (err == nil) {
		c.Errorf("AddSA with AES-GCM = %v, Has(CapAEAD) = %v", err, c.Stack.Has(klips.CapAEAD))
	}
}

// oneKey: of the SAs with the same combined-mode key and salt only one may send,
// whatever their destinations (RFC 4106 sections 2 and 3.1, RFC 7634 section 2).
func (c *contract) oneKey() {
	if !c.Stack.Has(klips.CapAEAD) {
		return // without combined modes no key is refused, as other tests show
	}
	gcm := func(id klips.SAID, keyLen int) *klips.SASpec {
		s := c.spec(id)
		if id.Dst.Is6() {
			s.Src = netip.MustParseAddr("2001:db8::1")
		}
		s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.AESGCM, key(keyLen), 0, nil
		return s
	}
	first := said(klips.ProtoESP, 0x1000, peer)
	c.must(c.Stack.AddSA(c.ctx, gcm(first, 36)))

	refused := func(s *klips.SASpec, other klips.SAID) {
		c.Helper()
		err := c.Stack.AddSA(c.ctx, s)
		var op *klips.OpError
		if !errors.Is(err, syscall.EKEYREJECTED) || !errors.As(err, &op) || op.Fault != klips.FaultKeyUsed || op.Other != other || op.Object != s.ID.String() {
			c.Errorf("AddSA %v with the key of %v = %v", s.ID, other, err)
		}
		if _, err := c.Stack.GetSA(c.ctx, s.ID); !errors.Is(err, syscall.ESRCH) {
			c.Errorf("GetSA %v after a refusal = %v, want ESRCH", s.ID, err)
		}
	}
	second, far6 := said(klips.ProtoESP, 0x1001, peer), said(klips.ProtoESP, 0x1000, peer6)
	refused(gcm(second, 36), first)
	refused(gcm(far6, 36), first)
	if err := c.Stack.AddSA(c.ctx, gcm(first, 36)); !errors.Is(err, syscall.EEXIST) {
		c.Errorf("AddSA of an SA that exists = %v, want EEXIST", err)
	}

	// An SA with another salt, key, cipher or direction is not a second sender.
	salted := gcm(second, 36)
	salted.EncKey[35]++
	c.must(c.Stack.AddSA(c.ctx, salted))
	c.must(c.Stack.AddSA(c.ctx, gcm(said(klips.ProtoESP, 0x1002, peer), 20)))
	chacha := gcm(said(klips.ProtoESP, 0x1003, peer), 36)
	chacha.Enc = alg.ChaCha20Poly1305
	c.must(c.Stack.AddSA(c.ctx, chacha))
	in := gcm(said(klips.ProtoESP, 0x1004, c.Local), 36)
	c.must(c.Stack.AddSA(c.ctx, in))
	c.must(c.Stack.AddSA(c.ctx, gcm(said(klips.ProtoESP, 0x1005, c.Local), 36)))

	again := gcm(far6, 36)
	again.ReuseKey = true
	c.must(c.Stack.AddSA(c.ctx, again))
	refused(gcm(said(klips.ProtoESP, 0x1006, peer6), 36), first)
	sa, err := c.Stack.GetSA(c.ctx, first)
	if want := []klips.SAID{in.ID, said(klips.ProtoESP, 0x1005, c.Local), far6}; err != nil || !slices.Equal(sa.SameKey, want) {
		c.Errorf("GetSA %v = same key as %v, %v, want %v", first, sa.SameKey, err, want)
	}

	// After the removal of its senders the key is free, for any SAID.
	c.must(c.Stack.DeleteSA(c.ctx, first))
	refused(gcm(first, 36), far6)
	c.must(c.Stack.DeleteSA(c.ctx, far6))
	c.must(c.Stack.AddSA(c.ctx, gcm(first, 36)))
	c.must(c.Stack.ClearSAs(c.ctx))
	c.must(c.Stack.AddSA(c.ctx, gcm(far6, 36)))
}

func (c *contract) largeWindow() {
	s := c.spec(said(klips.ProtoESP, 0x1000, peer))
	s.Window = 1024
	err := c.Stack.AddSA(c.ctx, s)
	if c.Stack.Has(klips.CapLargeWindow) != (err == nil) {
		c.Fatalf("AddSA with a window of 1024 = %v, Has(CapLargeWindow) = %v", err, c.Stack.Has(klips.CapLargeWindow))
	}
	if sa, gerr := c.Stack.GetSA(c.ctx, s.ID); err == nil && (gerr != nil || sa.Window != 1024) {
		c.Errorf("GetSA = window %d, %v", sa.Window, gerr)
	}
}

func (c *contract) offload() {
	s := c.spec(said(klips.ProtoESP, 0x1000, peer))
	for _, s.Offload = range []string{"no-such-device", c.Physical} {
		err := c.Stack.AddSA(c.ctx, s)
		if err == nil && c.Stack.Has(klips.CapOffload) && s.Offload == c.Physical {
			if sa, err := c.Stack.GetSA(c.ctx, s.ID); err != nil || sa.Offload != s.Offload {
				c.Errorf("GetSA = offload %q, %v, want %q", sa.Offload, err, s.Offload)
			}
			continue
		}
		if !errors.Is(err, syscall.EOPNOTSUPP) {
			c.Errorf("AddSA with offload to %s = %v, want EOPNOTSUPP", s.Offload, err)
		}
		if _, err := c.Stack.GetSA(c.ctx, s.ID); !errors.Is(err, syscall.ESRCH) {
			c.Errorf("GetSA after a refusal = %v, want ESRCH", err)
		}
	}
}

func (c *contract) esn() {
	for _, id := range []klips.SAID{said(klips.ProtoESP, 0x1000, peer), said(klips.ProtoAH, 0x1001, c.Local)} {
		s := c.spec(id)
		s.ESN = true
		for _, s.Window = range []uint32{0, 64} {
			err := c.Stack.AddSA(c.ctx, s)
			if want := c.Stack.Has(klips.CapESN) && s.Window > 0; want != (err == nil) {
				c.Fatalf("AddSA %v with ESN and a window of %d = %v, Has(CapESN) = %v", id, s.Window, err, c.Stack.Has(klips.CapESN))
			}
			if err != nil {
				if s.Window == 0 && c.Stack.Has(klips.CapESN) && !errors.Is(err, syscall.EINVAL) {
					c.Errorf("AddSA %v with ESN and no window = %v, want EINVAL", id, err)
				}
				continue
			}
			if sa, err := c.Stack.GetSA(c.ctx, id); err != nil || !sa.ESN || sa.Window != s.Window {
				c.Errorf("GetSA %v = ESN %v, window %d, %v", id, sa.ESN, sa.Window, err)
			}
		}
	}
	plain := c.spec(said(klips.ProtoESP, 0x1002, peer))
	c.must(c.Stack.AddSA(c.ctx, plain))
	if sa, err := c.Stack.GetSA(c.ctx, plain.ID); err != nil || sa.ESN {
		c.Errorf("GetSA of an SA without ESN = ESN %v, %v", sa.ESN, err)
	}
}

// copyTOS: tun SAs of both directions can copy the TOS, or the stack refuses that.
func (c *contract) copyTOS() {
	for i, dst := range []netip.Addr{peer, c.Local} {
		s := c.spec(said(klips.ProtoTun, klips.SPI(0x1000+i), dst))
		s.CopyTOS = true
		err := c.Stack.AddSA(c.ctx, s)
		if !c.Stack.Has(klips.CapCopyTOS) {
			c.wants("AddSA with a copied TOS", err, syscall.EOPNOTSUPP)
			continue
		}
		c.must(err)
		if sa, err := c.Stack.GetSA(c.ctx, s.ID); err != nil || !sa.CopyTOS {
			c.Errorf("GetSA %v = CopyTOS %v, %v", s.ID, sa.CopyTOS, err)
		}
	}
	if c.Stack.Has(klips.CapCopyTOS) {
		s := c.spec(said(klips.ProtoESP, 0x1003, peer))
		s.CopyTOS = true
		c.wants("AddSA of an ESP SA with a copied TOS", c.Stack.AddSA(c.ctx, s), syscall.EINVAL)
	}
}

// seq: an SA continues from the numbers that it is made with; or the stack refuses
// them.
func (c *contract) seq() {
	has := c.Stack.Has(klips.CapSeq)
	spi := klips.SPI(0x1000)
	for _, tt := range []struct {
		name           string
		proto          klips.Proto
		window         uint32
		esn            bool
		sent, received *uint64
		ok             bool
	}{
		{"sent", klips.ProtoESP, 0, false, new(uint64(77)), nil, true},
		{"sent with AH", klips.ProtoAH, 0, false, new(uint64(77)), nil, true},
		{"all sent", klips.ProtoESP, 0, false, new(uint64(1<<32 - 1)), nil, true},
		{"sent, too large", klips.ProtoESP, 0, false, new(uint64(1 << 32)), nil, false},
		{"received", klips.ProtoESP, 32, false, nil, new(uint64(77)), true},
		{"received with AH", klips.ProtoAH, 64, false, nil, new(uint64(7)), true},
		{"received in a narrow window", klips.ProtoESP, 8, false, nil, new(uint64(77)), true},
		{"nothing received", klips.ProtoESP, 32, false, new(uint64), new(uint64), true},
		{"received without a window", klips.ProtoESP, 0, false, nil, new(uint64(77)), false},
		{"received, too large", klips.ProtoESP, 32, false, nil, new(uint64(1 << 32)), false},
		{"of 64 bits", klips.ProtoESP, 64, true, new(uint64(5<<32 | 6)), new(uint64(7<<32 | 8)), true},
		{"of AH with 64 bits", klips.ProtoAH, 1024, true, new(uint64(5<<32 | 6)), new(uint64(7<<32 | 8)), true},
		{"sent with tun", klips.ProtoTun, 0, false, new(uint64(1)), nil, false},
		{"sent with comp", klips.ProtoComp, 0, false, new(uint64(1)), nil, false},
		{"received with tun", klips.ProtoTun, 32, false, nil, new(uint64(1)), false},
	} {
		for _, dst := range []netip.Addr{peer, c.Local} {
			s := c.spec(said(tt.proto, spi, dst))
			spi++
			s.Window, s.ESN, s.Seq, s.ReplaySeq = tt.window, tt.esn, tt.sent, tt.received
			if tt.esn && !c.Stack.Has(klips.CapESN) || tt.window > 64 && !c.Stack.Has(klips.CapLargeWindow) {
				continue
			}
			err := c.Stack.AddSA(c.ctx, s)
			if (err == nil) != (has && tt.ok) {
				c.Errorf("%s: AddSA %v = %v, Has(CapSeq) = %v", tt.name, s.ID, err, has)
			}
			if has && !tt.ok && !errors.Is(err, syscall.EINVAL) {
				c.Errorf("%s: AddSA %v = %v, want EINVAL", tt.name, s.ID, err)
			}
			if err != nil {
				continue
			}
			sa, err := c.Stack.GetSA(c.ctx, s.ID)
			if err != nil {
				c.Errorf("%s: GetSA %v: %v", tt.name, s.ID, err)
				continue
			}
			want := tt.sent
			if sa.Dir == klips.Inbound {
				want = tt.received
			}
			if want != nil && sa.Seq != *want {
				c.Errorf("%s: GetSA %v = number %d, want %d", tt.name, s.ID, sa.Seq, *want)
			}
			if sa.MaxSeqDiff != 0 {
				c.Errorf("%s: GetSA %v: %d numbers were skipped", tt.name, s.ID, sa.MaxSeqDiff)
			}
		}
	}
}

func (c *contract) version() {
	v, err := c.Stack.Version(c.ctx)
	if err != nil || v == "" {
		c.Errorf("Version = %q, %v", v, err)
	}
}

// keys: a stack that is a [klips.KeyReader] gives the keys that an SA was made with, and
// copies of them; listings have none in any stack.
func (c *contract) keys() {
	esp, ah, tun := said(klips.ProtoESP, 0x110, peer), said(klips.ProtoAH, 0x111, c.Local), said(klips.ProtoTun, 0x112, peer)
	c.add(esp, ah, tun)
	if _, ok := c.Bench.Stack.(klips.KeyReader); !ok {
		if _, err := klips.ReadKeys(c.ctx, c.Bench.Stack, esp); !errors.Is(err, syscall.EOPNOTSUPP) {
			c.Errorf("ReadKeys = %v, want EOPNOTSUPP", err)
		}
		return
	}
	if _, err := klips.ReadKeys(c.ctx, c.Bench.Stack, esp); errors.Is(err, syscall.EPERM) && os.Geteuid() != 0 {
		skip.Without(c.T, skip.Root, "keys are given to root only")
	} else if errors.Is(err, syscall.EOPNOTSUPP) {
		return
	}
	for range 2 { // what the caller has cleared was a copy
		for id, want := range map[klips.SAID]klips.Keys{esp: {AuthKey: key(20), EncKey: key(16)}, ah: {AuthKey: key(16)}, tun: {}} {
			got, err := klips.ReadKeys(c.ctx, c.Bench.Stack, id)
			got.Marked = false
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || d != "" {
				c.Errorf("ReadKeys(%v): %v (-want +got):\n%s", id, err, d)
			}
			got.Clear()
		}
	}
	c.must(c.Stack.DeleteSA(c.ctx, esp))
	if k, err := klips.ReadKeys(c.ctx, c.Bench.Stack, esp); !errors.Is(err, syscall.ESRCH) || k.AuthKey != nil || k.EncKey != nil {
		c.Errorf("ReadKeys of no SA = %d and %d bytes, %v, want ESRCH", len(k.AuthKey), len(k.EncKey), err)
	}
}
