package xfrm

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("192.0.2.2")
)

// aSpec draws from few SAs.
func aSpec(r *rapid.T) *klips.SASpec {
	s := &klips.SASpec{ID: anID(r), Src: here}
	if s.ID.Dst == here {
		s.Src = there
	}
	if s.ID.Proto == klips.ProtoESP || s.ID.Proto == klips.ProtoAH {
		s.Window = rapid.SampledFrom([]uint32{0, 32, 64}).Draw(r, "window")
		s.ESN = s.Window != 0 && rapid.Bool().Draw(r, "esn")
	}
	switch s.ID.Proto {
	case klips.ProtoESP:
		s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.AES, make([]byte, 16), alg.SHA256, make([]byte, 32)
	case klips.ProtoAH:
		s.Auth, s.AuthKey = alg.SHA256Trunc, make([]byte, 32)
	case klips.ProtoComp:
		s.Comp = alg.Deflate
	}
	return s
}

func anID(r *rapid.T) klips.SAID {
	return klips.SAID{
		Proto: rapid.SampledFrom([]klips.Proto{klips.ProtoTun, klips.ProtoESP, klips.ProtoAH, klips.ProtoComp}).Draw(r, "proto"),
		SPI:   klips.SPI(rapid.IntRange(0x100, 0x102).Draw(r, "spi")),
		Dst:   rapid.SampledFrom([]netip.Addr{here, there}).Draw(r, "dst"),
	}
}

// numbers are the indices that the kernel gives policies: they ascend, and a replaced
// policy keeps its own.
type numbers struct {
	of   map[nlxfrm.PolicyKey]uint32
	last uint32
}

// reload loads tables from objects in the kernel.
func reload(want *objects, n *numbers, devices []device) *tables {
	d := &dump{}
	for k := range n.of {
		if want.policies[k] == nil {
			delete(n.of, k)
		}
	}
	for _, k := range want.order {
		if n.of[k] == 0 {
			n.last += 8
			n.of[k] = n.last
		}
		p := *want.policies[k]
		p.Index = n.of[k]
		d.policies = append(d.policies, &p)
	}
	if want.census != nil {
		d.policies = append(d.policies, want.census)
	}
	for _, s := range want.states {
		d.states = append(d.states, s)
	}
	t, _ := load(d)
	t.local[here] = 2
	t.devices, t.interfaces = devices, func() bool { return true }
	return t
}

// Random commands change tables and a model in the same way. Tables that are compiled
// and loaded again are the same.
func TestTables(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ctx := context.Background()
		m := klipstest.NewModel(func(a netip.Addr) bool { return a == here }, func(string) (int, bool) { return 0, false })
		var devices []device
		if rapid.Bool().Draw(r, "attached") {
			devices = []device{{number: 0, ifID: 1, physical: 2}}
		}
		n := &numbers{of: map[nlxfrm.PolicyKey]uint32{}}
		have := newObjects()
		for range rapid.IntRange(1, 30).Draw(r, "commands") {
			tb := reload(have, n, devices)
			var do func() error
			var model func(*klipstest.Model) error
			switch rapid.IntRange(0, 9).Draw(r, "command") {
			case 0, 1, 2, 3:
				s := aSpec(r)
				do = func() error {
					x, err := newSA(s, time.Now())
					if err != nil {
						return err
					}
					return tb.addSA(x)
				}
				model = func(m *klipstest.Model) error { return m.AddSA(ctx, s) }
			case 4, 5, 6:
				ids := []klips.SAID{anID(r), anID(r), anID(r)}[:rapid.IntRange(2, 3).Draw(r, "members")]
				do = func() error { return tb.group(ids) }
				model = func(m *klipstest.Model) error { return m.Group(ctx, ids) }
			case 7:
				id := anID(r)
				do, model = func() error { return tb.ungroup(id) }, func(m *klipstest.Model) error { return m.Ungroup(ctx, id) }
			case 8:
				id := anID(r)
				do, model = func() error { return tb.deleteSA(id) }, func(m *klipstest.Model) error { return m.DeleteSA(ctx, id) }
			case 9:
				e := klips.Eroute{Selector: aSelector(r), ID: anID(r)}
				op := rapid.SampledFrom([]klips.ErouteOp{klips.ErouteAdd, klips.ErouteReplace, klips.ErouteAddIn}).Draw(r, "op")
				do = func() error { return tb.setEroute(e, op) }
				model = func(m *klipstest.Model) error { return m.SetEroute(ctx, e, op) }
			}
			got := do()
			var o *objects
			if got == nil {
				o, got = tb.compile()
			}
			if errors.Is(got, syscall.EOPNOTSUPP) {
				continue // the kernel cannot do this; nothing has changed
			}
			if want := model(m); !errors.Is(got, causeOf(want)) {
				r.Fatalf("%v, want %v", got, want)
			}
			if got == nil {
				have = o
			}
			again := reload(have, n, devices)
			compare(r, m, again)
			// Compiling the loaded tables gives no change.
			o, err := again.compile()
			if err != nil {
				r.Fatal(err)
			}
			p, err := diff(have, o, &dump{})
			if err != nil || !p.empty() || p.counted != nil {
				r.Fatalf("a second time there is still to do: %+v, %v", p, err)
			}
		}
	})
}

// causeOf returns the errno in an error, or the error itself.
func causeOf(err error) error {
	if e := errnoOf(err); e != 0 {
		return e
	}
	return err
}

func compare(r *rapid.T, m *klipstest.Model, tb *tables) {
	type row struct {
		ID     klips.SAID
		Dir    klips.Direction
		T      klips.Transform
		Src    netip.Addr
		Policy *klips.InboundPolicy
		Next   []klips.SAID
	}
	var want, got []row
	sas, _ := m.SAs(context.Background())
	for _, s := range sas {
		want = append(want, row{s.ID, s.Dir, s.Transform, s.Src, s.Policy, s.Next})
	}
	var l []klips.SA
	for _, s := range slices.Backward(tb.byAge()) {
		l = append(l, s.list(time.Now()))
	}
	klips.SortSAs(l)
	for _, s := range l {
		got = append(got, row{s.ID, s.Dir, s.Transform, s.Src, s.Policy, s.Next})
	}
	opts := cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})}
	if d := cmp.Diff(want, got, opts); d != "" {
		r.Fatalf("SAs differ (-want +got):\n%s", d)
	}
	routes, _ := m.Eroutes(context.Background())
	var have []klips.Eroute
	for _, e := range tb.routes {
		have = append(have, e.Eroute)
	}
	slices.SortFunc(have, klips.CompareEroutes)
	if d := cmp.Diff(routes, have, opts); d != "" {
		r.Fatalf("eroutes differ (-want +got):\n%s", d)
	}
}

// An interrupted change leaves two records that name the same outer neighbour. Each
// load gives it to the older SA.
func TestTwoInnerNeighbours(t *testing.T) {
	tb := newTables()
	for i := range klips.SPI(3) {
		s, err := newSA(&klips.SASpec{
			ID: klips.SAID{Dst: there, SPI: 0x100 + i, Proto: klips.ProtoAH}, Src: here,
			Transform: klips.Transform{Auth: alg.SHA256Trunc}, AuthKey: make([]byte, 32),
		}, time.Unix(1e9, 0))
		if err != nil {
			t.Fatal(err)
		}
		if err := tb.addSA(s); err != nil {
			t.Fatal(err)
		}
	}
	ids := []klips.SAID{{Dst: there, SPI: 0x100, Proto: klips.ProtoAH}, {Dst: there, SPI: 0x101, Proto: klips.ProtoAH}, {Dst: there, SPI: 0x102, Proto: klips.ProtoAH}}
	tb.sas[ids[0]].outer, tb.sas[ids[1]].outer = tb.sas[ids[2]], tb.sas[ids[2]]
	o := newObjects()
	for _, s := range tb.byAge() {
		o.add(s.record(users{}, false, 0))
		o.states[s.state.ID] = s.state
	}
	for range 50 {
		got := reload(o, &numbers{of: map[nlxfrm.PolicyKey]uint32{}}, nil)
		if a, b := got.sas[ids[0]], got.sas[ids[1]]; a.outer != got.sas[ids[2]] || b.outer != nil {
			t.Fatalf("the group of the older is %v, that of the younger %v", a.next(), b.next())
		}
	}
}

// A record keeps the direction of its SA, and its source.
func TestDirection(t *testing.T) {
	group, any4 := netip.MustParseAddr("224.0.0.5"), netip.IPv4Unspecified()
	for _, c := range []struct {
		dst, src netip.Addr
		want     klips.Direction
	}{{there, here, klips.Outbound}, {here, there, klips.Inbound}, {group, any4, klips.Both}, {group, here, klips.Outbound}, {group, there, klips.Inbound}} {
		tb := newTables()
		tb.local = map[netip.Addr]int{here: 1}
		id := klips.SAID{Dst: c.dst, SPI: 0x100, Proto: klips.ProtoAH}
		s, err := newSA(&klips.SASpec{ID: id, Src: c.src, Transform: klips.Transform{Auth: alg.SHA256Trunc}, AuthKey: make([]byte, 32)}, time.Unix(1e9, 0))
		if err == nil {
			err = tb.addSA(s)
		}
		if err != nil {
			t.Fatal(err)
		}
		read, _, ok := readRecord(s.record(users{}, false, 0))
		if s.dir != c.want || !ok || read.dir != c.want || read.src != c.src {
			t.Errorf("%v from %v: direction %v, and %v from %v in its record; want %v", id, c.src, s.dir, read.dir, read.src, c.want)
		}
	}
}

// Further SAs of an eroute are refused, and the eroute stays as it is.
func TestAlso(t *testing.T) {
	tb := newTables()
	id := klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: klips.ProtoESP}
	e := klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}, ID: id}
	if err := tb.setEroute(e, klips.ErouteAdd); err != nil {
		t.Fatal(err)
	}
	further := id
	further.SPI++
	for also, want := range map[klips.SAID]klips.Fault{further: klips.FaultAlso, id: klips.FaultAlsoTwice} {
		e.Also = []klips.SAID{also}
		var oe *klips.OpError
		if err := tb.setEroute(e, klips.ErouteReplace); !errors.As(err, &oe) || oe.Fault != want {
			t.Errorf("also %v: %v, want %v", also, err, want)
		}
	}
	if r := tb.routes[e.Selector]; r == nil || r.ID != id || r.Also != nil {
		t.Errorf("the eroute is %+v", r)
	}
}
