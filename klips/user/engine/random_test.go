package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// randomOps is how many operations TestRandomOperations carries out if OPS is not set.
const randomOps = 20_000

// roundOps is after how many operations an engine is closed and another one started.
const roundOps = 10_000

// fromEnv reads a number from the environment.
func fromEnv(t testing.TB, name string, otherwise uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s is not a number", name, v)
	}
	return n
}

// seeded returns random numbers. The same SEED gives the same numbers.
func seeded(t testing.TB) *rand.Rand {
	seed := fromEnv(t, "SEED", rand.Uint64())
	t.Logf("again with: SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Random operations in several goroutines, and random packets in both directions at the
// same time, do not hang and do not disturb each other. The engine works after them. OPS
// is the number of operations. The same SEED gives the same operations, but not the same
// order of the goroutines.
func TestRandomOperations(t *testing.T) {
	ops := fromEnv(t, "OPS", randomOps)
	seed := fromEnv(t, "SEED", rand.Uint64())
	t.Logf("again with: OPS=%d SEED=%d", ops, seed)
	for round := uint64(0); round*roundOps < ops; round++ {
		w := newRandomWorld(t, seed+round, 1+2*int(round%2))
		w.run(min(roundOps, ops-round*roundOps))
		w.works()
		// During the last round the engine is closed.
		w.closeUnderLoad()
	}
}

// A randomWorld is an engine, its network and its users.
type randomWorld struct {
	t     *testing.T
	seed  uint64
	net   *klipstest.Network
	host  *klipstest.Host
	clock *clocktest.Clock
	e     *engine.Engine

	left    atomic.Int64 // operations that have not begun
	packets atomic.Uint64
	hears   atomic.Bool // key daemons are registered

	turn sync.Mutex // held by the goroutine that advances the clock
}

var _ engine.Events = (*randomWorld)(nil)

func (w *randomWorld) Expire(*klips.SA, bool)           {}
func (w *randomWorld) BelowMark(klips.SAID, uint64)     {}
func (w *randomWorld) Acquire(*engine.Acquisition) bool { return w.hears.Load() }
func (w *randomWorld) NewMapping(klips.SAID, netip.AddrPort, netip.AddrPort) bool {
	return w.hears.Load()
}

// newRandomWorld makes a world whose engine has so many lanes.
func newRandomWorld(t *testing.T, seed uint64, lanes int) *randomWorld {
	w := &randomWorld{t: t, seed: seed, net: new(klipstest.Network), clock: clocktest.New()}
	w.host = klipstest.NewHost(w.net, []netip.Addr{gwA4, gwA6}, "eth0", "eth1")
	var err error
	if w.e, err = engine.New(w.host, engine.Config{Version: "test", Clock: w.clock, Lanes: lanes}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.e.Close() })
	w.e.SetEvents(w)
	for _, d := range []string{"ipsec0", "ipsec1"} {
		if err := w.e.CreateDevice(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if err := w.e.Attach(t.Context(), d, "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// run carries out n operations while random packets are sent.
func (w *randomWorld) run(n uint64) {
	stop := w.start(n)
	for w.left.Load() > 0 {
		w.progress()
	}
	stop()
}

// closeUnderLoad closes the engine during operations and packets.
func (w *randomWorld) closeUnderLoad() {
	stop := w.start(2000)
	for w.left.Load() > 1000 {
		w.progress()
	}
	closed := make(chan error, 1)
	go func() { closed <- w.e.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			w.t.Errorf("Close: %v", err)
		}
	case <-time.After(patience):
		w.hangs("Close")
	}
	stop()
	if n := w.host.Wires(); n != 0 {
		w.t.Errorf("%d wires are open after Close", n)
	}
	if l, _ := w.e.Devices(w.t.Context()); len(l) != 0 || w.host.Link("ipsec0") != nil {
		w.t.Errorf("after Close there are devices: %v", l)
	}
}

// patience is the time without any progress after which a test counts as hanging.
const patience = time.Minute

// progress returns when another operation has begun, and another packet.
func (w *randomWorld) progress() {
	ops, packets := w.left.Load(), w.packets.Load()
	for end := time.Now().Add(patience); w.left.Load() == ops || w.packets.Load() == packets; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.hangs("an operation or a packet")
		}
	}
}

// hangs ends the whole test program with the stacks of all goroutines. The panic is in
// its own goroutine, because a panic in the test's goroutine would wait for its cleanups.
func (w *randomWorld) hangs(what string) {
	debug.SetTraceback("all")
	go panic(fmt.Sprintf("SEED=%d: %s hangs", w.seed, what))
	select {}
}

// start begins n operations and an endless series of packets; stop ends them.
func (w *randomWorld) start(n uint64) (stop func()) {
	w.left.Store(int64(n))
	end := make(chan struct{})
	var wg sync.WaitGroup
	worker := func(number uint64, f func(*rand.Rand)) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(w.seed, number))
			for {
				select {
				case <-end:
					return
				default:
				}
				f(r)
			}
		})
	}
	for i := range uint64(3) {
		worker(i, func(r *rand.Rand) {
			if w.left.Add(-1) >= 0 {
				w.operate(r)
			} else {
				runtime.Gosched()
			}
		})
	}
	for i, d := range []string{"ipsec0", "ipsec1"} {
		worker(10+uint64(i), func(r *rand.Rand) { w.routePacket(r, d) })
		worker(20+uint64(i), func(*rand.Rand) { w.drain(d) })
	}
	worker(30, w.arrivePacket)
	return func() {
		close(end)
		ended := make(chan struct{})
		go func() { wg.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(patience):
			w.hangs("a worker")
		}
	}
}

// drain reads what has been written to a device, or will be soon.
func (w *randomWorld) drain(name string) {
	if l := w.host.Link(name); l != nil {
		select {
		case <-l.Arrived():
		case <-time.After(time.Millisecond):
		}
		return
	}
	runtime.Gosched()
}

// burst is the largest number of packets from one worker that are not processed yet.
const burst = 32

func (w *randomWorld) routePacket(r *rand.Rand, name string) {
	if l := w.host.Link(name); l != nil {
		l.Send(w.packet(r))
	}
	w.sent()
}

// arrivePacket delivers a random packet, or one that the engine has sent, sometimes
// damaged.
func (w *randomWorld) arrivePacket(r *rand.Rand) {
	p := w.packet(r)
	if s := w.net.Sent(); len(s) > 0 {
		if r.IntN(4) != 0 {
			p = append([]byte(nil), s[r.IntN(len(s))]...)
			if len(p) > 24 && r.IntN(3) == 0 {
				p[20+r.IntN(len(p)-20)] ^= 1
			}
		}
		if len(s) > 64 {
			w.net.Forget()
		}
	}
	// Change the destination to this host.
	if h, ok := packet.ParseIP(p); ok && r.IntN(8) != 0 {
		if h.Version == 4 {
			copy(p[16:], gwA4.AsSlice())
		} else {
			copy(p[24:], gwA6.AsSlice())
		}
	}
	w.host.ArriveBy(1+r.IntN(3), p)
	w.sent()
}

func (w *randomWorld) sent() {
	if w.packets.Add(1)%burst == 0 {
		w.host.Settle()
	}
}

func pick[T any](r *rand.Rand, l ...T) T { return l[r.IntN(len(l))] }

func (w *randomWorld) packet(r *rand.Rand) []byte {
	p := make([]byte, 40+r.IntN(1500))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	if r.IntN(2) == 0 {
		p[0], p[1], p[6], p[7], p[8] = 0x45, 0, byte(r.IntN(2)*0x40), 0, 64
		p[9] = pick[uint8](r, 6, 17, 1, 50, 51, 4, 108)
		copy(p[12:], []byte{10, 1, 1, 1, 10, 1, byte(r.IntN(3)), byte(r.IntN(64))})
	} else {
		p[0], p[7] = 0x60, 64
		p[6] = pick[uint8](r, 6, 17, 58, 50, 51, 4, 41, 0, 60, 44, 43)
		a := netip.MustParseAddr("2001:db8:1::1").As16()
		copy(p[8:], a[:])
		a[15] = byte(r.IntN(64))
		copy(p[24:], a[:])
	}
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	return p
}

func randomAddr(r *rand.Rand) netip.Addr { return pick(r, gwA4, gwB4, gwA6, gwB6) }

func randomID(r *rand.Rand) klips.SAID {
	return klips.SAID{Dst: randomAddr(r), SPI: klips.SPI(0x100 + r.IntN(6)), Proto: pick[klips.Proto](r, 4, 50, 51, 108)}
}

func randomSpec(r *rand.Rand) *klips.SASpec {
	s := &klips.SASpec{ID: randomID(r), Src: randomAddr(r), Window: pick[uint32](r, 0, 32, 64, 128)}
	switch s.ID.Proto {
	case klips.ProtoESP:
		switch r.IntN(4) {
		case 0:
			s.Enc, s.EncKey = alg.AES, testKey(16)
		case 1:
			s.Enc, s.EncKey = alg.AESGCM, testKey(20)
		case 2:
			s.Enc, s.Auth, s.AuthKey = alg.Null, alg.SHA1, testKey(20)
		case 3:
			s.Enc, s.EncKey = alg.ChaCha20Poly1305, testKey(36)
		}
		s.NATT = klips.NATT{Type: klips.NATTType(r.IntN(3)), SPort: 4500, DPort: pick[uint16](r, 0, 500, 4500)}
	case klips.ProtoAH:
		s.Auth, s.AuthKey = alg.SHA1, testKey(20)
	case klips.ProtoComp:
		s.Comp = alg.Deflate
	}
	switch r.IntN(8) {
	case 0, 1:
		s.Hard.Packets = uint64(1 + r.IntN(20))
	case 2:
		s.Soft.Packets = uint64(1 + r.IntN(20))
	case 3:
		s.Hard.AddTime, s.Soft.UseTime = uint64(1+r.IntN(9)), uint64(1+r.IntN(9))
	}
	s.ESN = r.IntN(8) == 0
	return s
}

func randomSelector(r *rand.Rand) klips.Selector {
	prefix := func() netip.Prefix {
		return netip.MustParsePrefix(pick(r, "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32", "::/0", "2001:db8:1::/48"))
	}
	s := klips.Selector{Src: prefix(), Dst: prefix()}
	if r.IntN(4) == 0 {
		s.Proto, s.DstPort = pick[uint8](r, 6, 17), uint16(r.IntN(3))
	}
	return s
}

// operate carries out one random operation. Many are refused, which is correct.
func (w *randomWorld) operate(r *rand.Rand) {
	ctx, e := context.Background(), w.e
	device := pick(r, "ipsec0", "ipsec1")
	switch r.IntN(32) {
	case 0, 1, 2, 3, 4, 5:
		_ = e.AddSA(ctx, randomSpec(r))
	case 6, 7, 8:
		ids := make([]klips.SAID, 2+r.IntN(3))
		for i := range ids {
			ids[i] = randomID(r)
		}
		_ = e.Group(ctx, ids)
	case 9:
		_ = e.Ungroup(ctx, randomID(r))
	case 10:
		_ = e.DeleteSA(ctx, randomID(r))
	case 11, 12, 13, 14:
		to := klips.Eroute{Selector: randomSelector(r), ID: randomID(r)}
		if r.IntN(3) == 0 {
			to.ID = klips.Magic(klips.SPI(0x100 + r.IntN(7)))
		}
		_ = e.SetEroute(ctx, to, klips.ErouteOp(r.IntN(4)))
	case 15:
		_ = e.DeleteEroute(ctx, randomSelector(r))
	case 16, 17:
		_ = e.UpdateSA(ctx, randomSpec(r))
	case 18:
		_ = e.SetPorts(ctx, randomID(r), 4500, uint16(r.IntN(65536)))
	case 19:
		if id := randomID(r); id.Proto != klips.ProtoTun {
			_, _ = e.ReserveSA(ctx, id, randomAddr(r), 0x100, 0x10f)
		}
	case 20:
		_ = e.Detach(ctx, device)
		_ = e.Attach(ctx, device, pick(r, "eth0", "eth1"))
	case 21:
		w.host.TakeDown(pick(r, "eth0", "eth1"))
		if r.IntN(2) == 0 {
			w.host.BringUp("eth0")
			w.host.BringUp("eth1")
		}
		_ = e.Attach(ctx, device, "eth0")
	case 22:
		w.host.SetDeviceMTU(pick(r, "eth0", "eth1"), 200+r.IntN(2000))
	case 23:
		if a := pick(r, gwB4, gwB6); r.IntN(2) == 0 {
			w.host.AddAddr(a)
		} else {
			w.host.RemoveAddr(a)
		}
	case 24:
		_, _ = e.SAs(ctx)
		_, _ = e.Eroutes(ctx)
	case 25:
		_, _ = e.Devices(ctx)
		_, _ = e.GetSA(ctx, randomID(r))
	case 26:
		w.hears.Store(r.IntN(4) != 0)
	case 27:
		_ = e.SetKnob(pick(r, "icmp", "ike_bypass", "inbound_policy_check", "inbound_policy_required", "tos"), r.IntN(2))
	case 28:
		var c klips.DebugChange
		c.Set, c.Masks[r.IntN(len(c.Masks))] = r.IntN(2) == 0, r.Uint32()
		_ = e.SetDebug(ctx, c)
		_, _ = e.Debug(ctx)
	case 29:
		if w.turn.TryLock() {
			w.clock.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
			w.turn.Unlock()
		}
	case 30:
		switch r.IntN(20) {
		case 0:
			_ = e.ClearSAs(ctx)
		case 1:
			_ = e.ClearEroutes(ctx)
		case 2:
			_ = e.DetachAll(ctx)
		}
	case 31:
		if l := w.host.Link(device); l != nil && r.IntN(4) == 0 {
			_ = l.Close() // as if it were removed from the system
		}
		if r.IntN(4) == 0 {
			_ = e.DeleteDevice(ctx, device)
			_ = e.CreateDevice(ctx, device)
			_ = e.Attach(ctx, device, "eth1")
		}
	}
}

// works checks that the engine still works: its tables are consistent, and a packet that
// is routed into a device is sent protected.
func (w *randomWorld) works() {
	w.t.Helper()
	ctx, e := w.t.Context(), w.e
	// The engine learns a moment later that a device was removed from the system.
	settled(w.t, "no device is listed that the host has not", func() bool {
		l, _ := e.Devices(ctx)
		return !slices.ContainsFunc(l, func(d klips.Device) bool { return w.host.Link(d.Name) == nil })
	})
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	sas, _ := e.SAs(ctx)
	there := map[klips.SAID]bool{}
	for _, sa := range sas {
		there[sa.ID] = true
	}
	for _, sa := range sas {
		for _, id := range sa.Next {
			if !there[id] {
				w.t.Errorf("%v is followed by %v, which does not exist", sa.ID, id)
			}
		}
	}
	must(e.ClearSAs(ctx))
	must(e.ClearEroutes(ctx))
	must(e.DetachAll(ctx))
	_ = e.CreateDevice(ctx, "ipsec0")
	w.host.SetDeviceMTU("eth0", 1500)
	must(e.Attach(ctx, "ipsec0", "eth0"))
	id := klips.SAID{Dst: netip.MustParseAddr("192.0.2.99"), SPI: 0x1000, Proto: klips.ProtoESP}
	must(e.AddSA(ctx, &klips.SASpec{ID: id, Src: gwA4, Transform: gcm.tr, EncKey: testKey(20)}))
	must(e.SetEroute(ctx, klips.Eroute{Selector: klips.Selector{
		Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}, ID: id}, klips.ErouteAdd))
	w.host.Settle()
	w.net.Forget()
	w.host.Link("ipsec0").Send(ip(inA4, inB4, packet.ProtoUDP, 100))
	settled(w.t, "a packet leaves", func() bool { return len(w.net.Sent()) > 0 })
	if p := w.net.Sent()[0]; !isESP(p) {
		w.t.Errorf("a packet that an eroute sends into an ESP SA left as % x", p)
	}
}

func isESP(p []byte) bool {
	h, ok := packet.ParseIP(p)
	return ok && h.Proto == packet.ProtoESP
}
