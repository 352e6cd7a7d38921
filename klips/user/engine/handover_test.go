package engine_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/handover"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// next hands the state of an engine over to another engine, in a sealed file.
func next(t *testing.T, h *klipstest.Host, c engine.Config, e *engine.Engine) *engine.Engine {
	t.Helper()
	s := e.HandOver()
	if s == nil {
		t.Fatal("there is nothing to hand over")
	}
	f, err := handover.Seal(s)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s.Clear()
	if c.State, err = handover.Open(f); err != nil {
		t.Fatal(err)
	}
	defer c.State.Clear()
	n, err := engine.New(h, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// A view has everything that the listings of an engine show.
type view struct {
	SAs     []klips.SA
	Eroutes []klips.Eroute
	Devices []klips.Device
	Debug   klips.Debug
	Knobs   []klips.Knob
	Holds   engine.HoldStats
	Drops   drop.Counts
}

func viewOf(t *testing.T, e *engine.Engine) (v view) {
	t.Helper()
	var err error
	see := func(e error) {
		if err == nil {
			err = e
		}
	}
	var e1, e2, e3, e4 error
	v.SAs, e1 = e.SAs(t.Context())
	v.Eroutes, e2 = e.Eroutes(t.Context())
	v.Devices, e3 = e.Devices(t.Context())
	v.Debug, e4 = e.Debug(t.Context())
	v.Knobs, v.Holds, v.Drops = e.Knobs(), e.Holds(), e.Drops()
	for _, e := range []error{e1, e2, e3, e4} {
		see(e)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// still returns when no device is being attached or detached. down: a physical device is
// down then, and a virtual device may wait for it.
func (w *randomWorld) still(down bool) {
	w.host.BringUp("eth0")
	w.host.BringUp("eth1")
	settled(w.t, "no device waits for a physical one that is up, and none is going", func() bool {
		l, err := w.e.Devices(w.t.Context())
		gone := func(d klips.Device) bool { return w.host.Link(d.Name) == nil }
		return err == nil && !slices.ContainsFunc(l, gone) && !w.e.Awaits()
	})
	if down {
		w.host.TakeDown("eth1")
	}
}

// compareViews ignores fields that are set only after a hand-over.
var compareViews = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty(),
	cmpopts.IgnoreFields(klips.SA{}, "AddAgain", "GroupAgain"), cmpopts.IgnoreFields(klips.Eroute{}, "AddAgain")}

// After any operations, the next engine has the same listings, and works.
func TestRandomHandOver(t *testing.T) {
	r := seeded(t)
	for range 5 {
		w := newRandomWorld(t, r.Uint64(), 1)
		if err := w.e.KeepDevices(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			w.run(1000)
			w.still(r.IntN(2) == 0)
			w.host.Settle()
			want := viewOf(t, w.e)
			for i := range want.Devices { // incomplete datagrams are not handed over
				d := &want.Devices[i]
				if n := w.e.Fragments(d.Name); n > 0 {
					d.Stats.TxErrors += uint64(n)
					d.Drops = maps.Clone(d.Drops)
					if d.Drops == nil {
						d.Drops = drop.Counts{}
					}
					d.Drops.Add(drop.Fragments, uint64(n))
				}
			}
			w.e = next(t, w.host, engine.Config{Version: "test", Clock: w.clock}, w.e)
			w.e.SetEvents(w)
			if d := cmp.Diff(want, viewOf(t, w.e), compareViews); d != "" {
				t.Fatalf("listed otherwise than before (-before +after):\n%s", d)
			}
			if err := w.e.KeepDevices(); err != nil {
				t.Fatal(err)
			}
		}
		w.works()
		if err := w.e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// An SA continues with its numbers: none is sent twice, and none is accepted twice.
func TestHandOverNumbers(t *testing.T) {
	var net klipstest.Network
	clock := clocktest.New()
	a := klipstest.NewHost(&net, []netip.Addr{gwA4}, "eth0")
	b := klipstest.NewHost(&net, []netip.Addr{gwB4}, "eth0")
	c := engine.Config{Clock: clock}
	start := func(h *klipstest.Host) *engine.Engine {
		e, err := engine.New(h, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		for _, err := range []error{
			e.CreateDevice(t.Context(), "ipsec0"), e.Attach(t.Context(), "ipsec0", "eth0"), e.KeepDevices(),
			e.AddSA(t.Context(), &klips.SASpec{
				ID: klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoESP}, Src: gwA4, Window: 64, Transform: gcm.tr, EncKey: testKey(20),
			}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return e
	}
	ea, eb := start(a), start(b)
	if err := ea.SetEroute(t.Context(), klips.Eroute{
		Selector: klips.Selector{Src: netip.MustParsePrefix("192.0.2.0/24"), Dst: netip.MustParsePrefix("192.0.2.0/24")},
		ID:       klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoESP},
	}, klips.ErouteAdd); err != nil {
		t.Fatal(err)
	}
	seqs := map[string]bool{}
	send := func(n int) {
		t.Helper()
		for range n {
			net.Forget()
			a.Link("ipsec0").Send(ip(gwA4, gwB4, packet.ProtoUDP, 100))
			a.Settle()
			b.Settle()
			s := net.Sent()
			if len(s) != 1 {
				t.Fatalf("%d packets left, want 1", len(s))
			}
			if seq := string(s[0][24:28]); seqs[seq] {
				t.Fatalf("sequence number %x left twice", seq)
			} else {
				seqs[seq] = true
			}
		}
	}
	received := func() (packets, replays uint64) {
		t.Helper()
		sa, err := eb.GetSA(t.Context(), klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoESP})
		if err != nil {
			t.Fatal(err)
		}
		return sa.Life.Packets.Count, uint64(sa.ReplayErrs)
	}
	send(3)
	old := net.Sent()[0]
	next(t, a, c, ea)
	send(3)
	eb = next(t, b, c, eb)
	if n, _ := received(); n != 6 {
		t.Errorf("%d packets were received, want 6", n)
	}
	b.Arrive(old)
	b.Settle()
	if n, replays := received(); n != 6 || replays != 1 {
		t.Errorf("a packet of before: %d received, %d refused as replays, want 6 and 1", n, replays)
	}
	send(1)
	if n, _ := received(); n != 7 {
		t.Errorf("%d packets were received, want 7", n)
	}
}
