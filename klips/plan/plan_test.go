package plan_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/plan"
	"github.com/klips-go/ipsec/klips/serial"
)

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("192.0.2.2")
)

func newModel() *plan.Model {
	return plan.NewModel(func(a netip.Addr) bool { return a == here }, func(name string) (int, bool) { return 1500, name == "eth0" })
}

// anyChange draws a change of few objects.
func anyChange(r *rapid.T) klips.Change {
	id := func(name string) klips.SAID {
		return klips.SAID{
			Dst:   rapid.SampledFrom([]netip.Addr{here, there}).Draw(r, name+" destination"),
			SPI:   klips.SPI(rapid.IntRange(0x100, 0x102).Draw(r, name+" SPI")),
			Proto: rapid.SampledFrom([]klips.Proto{klips.ProtoTun, klips.ProtoESP}).Draw(r, name+" protocol"),
		}
	}
	selector := func() klips.Selector {
		return klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/24"), Dst: netip.PrefixFrom(
			netip.AddrFrom4([4]byte{10, 2, byte(rapid.IntRange(0, 2).Draw(r, "net")), 0}), 24)}
	}
	device := func() string {
		return fmt.Sprint("ipsec", rapid.IntRange(0, 2).Draw(r, "device"))
	}
	switch rapid.IntRange(0, 17).Draw(r, "change") {
	case 0, 1, 2, 3:
		s := &klips.SASpec{ID: id("new"), Src: here}
		if s.ID.Proto == klips.ProtoESP {
			s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.AES, make([]byte, 16), alg.SHA1, make([]byte, 20)
		}
		return klips.AddSA{SASpec: s}
	case 4:
		return klips.DeleteSA{ID: id("old")}
	case 5, 6, 7:
		ids := []klips.SAID{id("inner"), id("outer")}
		if rapid.Bool().Draw(r, "three") {
			ids = append(ids, id("outermost"))
		}
		return klips.Group{IDs: ids}
	case 8:
		return klips.Ungroup{ID: id("member")}
	case 9, 10:
		e := klips.Eroute{Selector: selector(), ID: id("of the eroute")}
		for range rapid.IntRange(0, 2).Draw(r, "further SAs") {
			further := id("further")
			further.Dst = e.ID.Dst // others, and the same one twice, are refused
			e.Also = append(e.Also, further)
		}
		return klips.SetEroute{Eroute: e, Replace: rapid.Bool().Draw(r, "replace")}
	case 11:
		return klips.SetPolicy{ID: id("of the policy"), Policy: selector()}
	case 12:
		return klips.DeleteEroute{Selector: selector()}
	case 13:
		return rapid.SampledFrom([]klips.Change{klips.ClearSAs{}, klips.ClearEroutes{}, klips.DetachAll{}}).Draw(r, "all")
	case 14:
		return klips.Attach{Virtual: device(), Physical: rapid.SampledFrom([]string{"eth0", "none"}).Draw(r, "physical")}
	case 15:
		return klips.Detach{Virtual: device()}
	case 16:
		return rapid.SampledFrom([]klips.Change{klips.CreateDevice{Virtual: "ipsec2"}, klips.DeleteDevice{Virtual: "ipsec2"}}).Draw(r, "device")
	}
	c := klips.SetDebug{DebugChange: klips.DebugChange{Set: rapid.Bool().Draw(r, "set")}}
	c.Masks[klips.DebugESP] = rapid.Uint32().Draw(r, "mask")
	return c
}

// After a change and its inverse the state is as before, apart from times.
func TestInverse(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(r *rapid.T) {
		m := newModel()
		for range rapid.IntRange(0, 30).Draw(r, "before") {
			_ = m.Do(ctx, anyChange(r))
		}
		before := m.Clone()
		var back [][]klips.Change
		var done []klips.Change
		for range rapid.IntRange(1, 6).Draw(r, "changes") {
			c := anyChange(r)
			inverse, ok := m.Inverse(c)
			was := m.Clone()
			if err := m.Do(ctx, c); err != nil {
				same(r, "a refused change", was, m)
				continue
			}
			if !ok {
				return
			}
			back, done = append(back, inverse), append(done, c)
		}
		for i := len(back) - 1; i >= 0; i-- {
			for _, c := range back[i] {
				if err := m.Do(ctx, c); err != nil {
					r.Fatalf("%v takes back %v: %v", c, done[i], err)
				}
			}
		}
		same(r, fmt.Sprint("taking back ", done), before, m)
	})
}

// view returns the tables of a model, without references, and without the MTU that a
// device keeps after it was attached.
func view(r *rapid.T, m *plan.Model) *klips.Snapshot {
	s, err := serial.Snapshot(context.Background(), m, plan.Wanted)
	if err != nil {
		r.Fatal(err)
	}
	for i := range s.SAs {
		s.SAs[i].Ref = 0
	}
	for i := range s.Devices {
		s.Devices[i].MTU = 0
	}
	return s
}

func same(r *rapid.T, what string, want, got *plan.Model) {
	r.Helper()
	if d := cmp.Diff(view(r, want), view(r, got), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
		r.Fatalf("after %s (-before +after)\n%s", what, d)
	}
}

// A model of a stack's state continues like the stack.
func TestOf(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(r *rapid.T) {
		m := newModel()
		for range rapid.IntRange(0, 30).Draw(r, "before") {
			_ = m.Do(ctx, anyChange(r))
		}
		s, err := serial.Snapshot(ctx, m, plan.Wanted)
		if err != nil {
			r.Fatal(err)
		}
		n := plan.Of(klips.Info{Name: "model", Has: m.Has}, s)
		n.Local, n.Physical = m.Local, m.Physical
		same(r, "reading", m, n)
		for range 10 {
			c := anyChange(r)
			if e1, e2 := m.Do(ctx, c), n.Do(ctx, c); fmt.Sprint(e1) != fmt.Sprint(e2) {
				r.Fatalf("%v: %v, want %v", c, e2, e1)
			}
			same(r, c.String(), m, n)
		}
	})
}

// No printed form of a change contains a key.
func TestNoKeys(t *testing.T) {
	c := klips.AddSA{SASpec: &klips.SASpec{ID: klips.SAID{Dst: there, SPI: 0x100, Proto: klips.ProtoESP}, EncKey: []byte("secret secret se"), AuthKey: []byte("secret")}}
	for _, verb := range []string{"%v", "%+v", "%s", "%#v"} {
		if text := fmt.Sprintf(verb, c); text != "add SA esp0x100@192.0.2.2" {
			t.Errorf("%s prints %q", verb, text)
		}
	}
}
