package engine

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// live returns how many bytes of the heap are in use.
func live() int64 {
	runtime.GC()
	runtime.GC() // the second run frees objects that had finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func newBare(t *testing.T) *Engine {
	t.Helper()
	e, err := New(&bareHost{local: netip.MustParseAddr("192.0.2.1")}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func testSA(n int, proto klips.Proto) *klips.SASpec {
	s := &klips.SASpec{ID: klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: klips.SPI(0x1000 + n), Proto: proto}, Src: netip.MustParseAddr("192.0.2.1")}
	switch proto {
	case klips.ProtoESP: // the SA that needs most
		s.Transform = klips.Transform{Enc: alg.AES, Auth: alg.SHA512}
		s.EncKey, s.AuthKey, s.Window = make([]byte, 32), make([]byte, 64), 4096
	case klips.ProtoComp:
		s.Transform = klips.Transform{Comp: alg.Deflate}
	}
	return s
}

// ipPacket returns a UDP packet of n bytes, most of them zero.
func ipPacket(n int) []byte {
	p := make([]byte, n)
	p[0], p[8], p[9] = 0x45, 64, packet.ProtoUDP
	packet.SetTotal(p, n)
	packet.FixChecksum(p)
	return p
}

func testEroute(n int) klips.Eroute {
	return klips.Eroute{
		Selector: klips.Selector{
			Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32),
		},
		ID: klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x1000, Proto: klips.ProtoESP},
	}
}

// furtherSAs returns further SAs for testEroute.
func furtherSAs(n int) (ids []klips.SAID) {
	for i := range n {
		ids = append(ids, klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: klips.SPI(0x2000 + i), Proto: klips.ProtoESP})
	}
	return ids
}

// The costs of SAs and eroutes are at least what they need.
func TestCosts(t *testing.T) {
	ctx := context.Background()
	e := newBare(t)
	const n = 2000
	before := live()
	for i := range n {
		if err := e.AddSA(ctx, testSA(i, klips.ProtoESP)); err != nil {
			t.Fatal(err)
		}
		if _, err := stateOf(e.sas.Lookup(testSA(i, klips.ProtoESP).ID), 1); err != nil {
			t.Fatal(err)
		}
	}
	got := (live() - before) / n
	t.Logf("an SA takes %d bytes", got)
	if got > saCost {
		t.Errorf("an SA takes %d bytes, and %d are counted", got, saCost)
	}
	const compressors = 20
	text := ipPacket(1000)
	before = live()
	for i := range compressors {
		spec := testSA(i, klips.ProtoComp)
		if err := e.AddSA(ctx, spec); err != nil {
			t.Fatal(err)
		}
		s, err := stateOf(e.sas.Lookup(spec.ID), 1)
		if err != nil {
			t.Fatal(err)
		}
		b := &packet.Buffer{B: make([]byte, packet.Headroom+len(text)+packet.Tailroom), Off: packet.Headroom, End: packet.Headroom + len(text)}
		copy(b.Bytes(), text)
		h, _ := packet.ParseIP(b.Bytes())
		if !s.compr.Compress(b, &h, uint16(spec.ID.SPI)) {
			t.Fatal("nothing was compressed")
		}
	}
	got = (live() - before) / compressors
	t.Logf("a comp SA takes %d bytes", got)
	if got > saCost+compressorCost {
		t.Errorf("a comp SA takes %d bytes, and %d are counted", got, saCost+compressorCost)
	}
	before = live()
	for i := range n {
		if err := e.SetEroute(ctx, testEroute(i), klips.ErouteAdd); err != nil {
			t.Fatal(err)
		}
	}
	got = (live() - before) / n
	t.Logf("an eroute takes %d bytes", got)
	if got > erouteCost {
		t.Errorf("an eroute takes %d bytes, and %d are counted", got, erouteCost)
	}
	before = live()
	for i := range n {
		r := testEroute(n + i)
		r.Also = furtherSAs(klips.MaxAlso)
		if err := e.SetEroute(ctx, r, klips.ErouteAdd); err != nil {
			t.Fatal(err)
		}
	}
	got = (live() - before) / n
	t.Logf("an eroute with the most SAs takes %d bytes", got)
	if want := int64(erouteCost + klips.MaxAlso*alsoCost); got > want {
		t.Errorf("an eroute with the most SAs takes %d bytes, and %d are counted", got, want)
	}
	runtime.KeepAlive(e)
}

// When the memory limit is reached, SAs, eroutes and devices are refused. Existing ones
// stay and can be changed. Removing one makes room.
func TestBound(t *testing.T) {
	ctx := context.Background()
	e := newBare(t)
	e.memory = 3*saCost + 2*erouteCost
	full := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, syscall.ENOBUFS) {
			t.Errorf("%s: %v, want ENOBUFS", what, err)
		}
	}
	done := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	full("a comp SA", e.AddSA(ctx, testSA(0, klips.ProtoComp)))
	for i := range 3 {
		done("an SA", e.AddSA(ctx, testSA(i, klips.ProtoESP)))
	}
	full("a fourth SA", e.AddSA(ctx, testSA(3, klips.ProtoESP)))
	_, err := e.ReserveSA(ctx, testSA(3, klips.ProtoESP).ID, netip.Addr{}, 0x2000, 0x3000)
	full("a larval SA", err)
	for i := range 2 {
		done("an eroute", e.SetEroute(ctx, testEroute(i), klips.ErouteAdd))
	}
	full("a third eroute", e.SetEroute(ctx, testEroute(2), klips.ErouteAdd))
	full("a third eroute, as a replacement of none", e.SetEroute(ctx, testEroute(2), klips.ErouteReplace))
	done("replacing an eroute", e.SetEroute(ctx, testEroute(1), klips.ErouteReplace))
	spread := testEroute(1)
	spread.Also = furtherSAs(3)
	full("more SAs for an eroute", e.SetEroute(ctx, spread, klips.ErouteReplace))
	e.memory += 3 * alsoCost
	done("more SAs for an eroute", e.SetEroute(ctx, spread, klips.ErouteReplace))
	done("as many", e.SetEroute(ctx, spread, klips.ErouteReplace))
	done("fewer", e.SetEroute(ctx, testEroute(1), klips.ErouteReplace))
	e.memory -= 3 * alsoCost
	done("changing an SA", e.UpdateSA(ctx, testSA(1, klips.ProtoESP)))
	done("two devices", errors.Join(e.CreateDevice(ctx, "ipsec0"), e.CreateDevice(ctx, "ipsec1")))
	full("a third device", e.CreateDevice(ctx, "ipsec2"))

	done("deleting an SA", e.DeleteSA(ctx, testSA(1, klips.ProtoESP).ID))
	_, err = e.ReserveSA(ctx, testSA(3, klips.ProtoESP).ID, netip.Addr{}, 0x2000, 0x3000)
	done("a larval SA in its place", err)
	full("one more", e.AddSA(ctx, testSA(1, klips.ProtoESP)))
	done("clearing SAs", e.ClearSAs(ctx))
	done("clearing eroutes", e.ClearEroutes(ctx))
	if got := e.saMemory.Load(); got != 0 {
		t.Errorf("%d bytes are counted for no SAs", got)
	}
	done("an SA again", e.AddSA(ctx, testSA(1, klips.ProtoESP)))
}
