package engine_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// wireTap is a sender and a receiver; the test carries the packets.
type wireTap struct {
	*pair
	out      *klipstest.Network
	ids      []klips.SAID // from inner to outer
	src, dst netip.Addr   // of the packets in clear
	taken    int
	rand     *rand.Rand
}

// numbered returns the SAs of a group that have sequence numbers.
func (w *wireTap) numbered() (ids []klips.SAID) {
	for _, id := range w.ids {
		if id.Proto == klips.ProtoESP || id.Proto == klips.ProtoAH {
			ids = append(ids, id)
		}
	}
	return ids
}

func newWireTap(t testing.TB, layers []layer, version int, window uint32, esn bool) *wireTap {
	w := &wireTap{out: new(klipstest.Network), rand: seeded(t)}
	w.pair = pairOn(t, w.out, new(klipstest.Network), nil)
	src, dst, bits := gwA4, gwB4, 32
	w.src, w.dst = inA4, inB4
	if version == 6 {
		src, dst, bits = gwA6, gwB6, 128
		w.src, w.dst = inA6, inB6
	}
	if layers[0].proto != klips.ProtoTun {
		w.src, w.dst = src, dst
	}
	for _, e := range []*engine.Engine{w.a, w.b} {
		w.ids = nil
		for i, l := range layers {
			spec := &klips.SASpec{ID: klips.SAID{Dst: dst, SPI: klips.SPI(0x1000 + i), Proto: l.proto}, Src: src, Transform: l.tr}
			if l.proto == klips.ProtoESP || l.proto == klips.ProtoAH {
				enc, _ := l.tr.Enc.Info()
				auth, _ := l.tr.Auth.Info()
				spec.EncKey, spec.AuthKey = testKey(enc.KeyBits[0]/8), testKey(auth.KeyBits[0]/8)
				spec.Window, spec.ESN = window, esn
			}
			w.must(e.AddSA(t.Context(), spec))
			w.ids = append(w.ids, spec.ID)
		}
		if len(layers) > 1 {
			w.must(e.Group(t.Context(), w.ids))
		}
	}
	sel := klips.Selector{Src: netip.PrefixFrom(w.src, bits), Dst: netip.PrefixFrom(w.dst, bits)}
	w.must(w.a.SetEroute(t.Context(), klips.Eroute{Selector: sel, ID: w.ids[0]}, klips.ErouteAdd))
	return w
}

// clear returns the n-th packet in clear.
func (w *wireTap) clear(n int) []byte {
	p := ip(w.src, w.dst, 253, 60)
	binary.BigEndian.PutUint32(p[len(p)-4:], uint32(n))
	return p
}

// send seals packets number from to from+n-1 and returns what is on the wire.
func (w *wireTap) send(from, n int) [][]byte {
	w.t.Helper()
	for i := range n {
		w.ha.Link("ipsec0").Send(w.clear(from + i))
	}
	w.ha.Settle()
	all := w.out.Sent()
	sent := all[w.taken:]
	w.taken = len(all)
	if len(sent) != n {
		w.t.Fatalf("%d of %d packets were sent: %+v", len(sent), n, w.stats(w.a))
	}
	return sent
}

// arrive gives the receiver packets and returns what came out.
func (w *wireTap) arrive(pkts ...[]byte) (got [][]byte) {
	for _, p := range pkts {
		w.hb.Arrive(p)
	}
	w.hb.Settle()
	for {
		select {
		case p := <-w.hb.Link("ipsec0").Arrived():
			got = append(got, p)
		default:
			return got
		}
	}
}

// exchange sends n packets, delivers them in a random order, then delivers all again.
// Every packet must be accepted once, and every copy must count as replayed.
func (w *wireTap) exchange(from, n int) {
	w.t.Helper()
	wire := w.send(from, n)
	order := w.rand.Perm(n)
	before := w.outermost(w.b)
	var want [][]byte
	for _, i := range order {
		want = append(want, w.clear(from+i))
	}
	shuffled := make([][]byte, n)
	for i, j := range order {
		shuffled[i] = wire[j]
	}
	if got := w.arrive(shuffled...); !slices.EqualFunc(got, want, bytes.Equal) {
		w.t.Fatalf("of %d packets in the order %v came out %d, or others; outermost SA %+v", n, order, len(got), w.outermost(w.b))
	}
	if got := w.arrive(shuffled...); len(got) != 0 {
		w.t.Fatalf("%d copies came out", len(got))
	}
	after := w.outermost(w.b)
	if d := after.ReplayErrs - before.ReplayErrs; d != uint32(n) || after.AuthErrs != before.AuthErrs {
		w.t.Fatalf("%d copies count as %d replays and %d forgeries", n, d, after.AuthErrs-before.AuthErrs)
	}
}

// outermost returns the SA of the outermost layer.
func (w *wireTap) outermost(e *engine.Engine) klips.SA {
	w.t.Helper()
	sa, err := e.GetSA(w.t.Context(), w.ids[len(w.ids)-1])
	w.must(err)
	return sa
}

var (
	nullSHA = layer{klips.ProtoESP, klips.Transform{Enc: alg.Null, Auth: alg.SHA1}}
	chacha  = layer{klips.ProtoESP, klips.Transform{Enc: alg.ChaCha20Poly1305}}
)

// TestESN sends packets of groups with numbers around several multiples of 2³², in any
// order that the window allows, and copies of them.
func TestESN(t *testing.T) {
	for _, g := range []struct {
		name   string
		layers []layer
	}{
		{"tun+esp", []layer{tun, aes}},
		{"tun+3des", []layer{tun, tdes}},
		{"tun+gcm", []layer{tun, gcm}},
		{"tun+chacha", []layer{tun, chacha}},
		{"tun+ah", []layer{tun, ahMD5}},
		{"tun+esp+ah", []layer{tun, nullSHA, ah256}},
		{"tun+comp+gcm+ah", []layer{tun, comp, gcm, ahMD5}},
		{"esp", []layer{aes}},
		{"ah", []layer{ah256}},
	} {
		for _, version := range []int{4, 6} {
			for _, window := range []uint32{32, 64, 65, 4096} {
				t.Run(fmt.Sprintf("%s/%d/%d", g.name, version, window), func(t *testing.T) {
					w := newWireTap(t, g.layers, version, window, true)
					n := 0
					for _, start := range []uint64{
						1,            // the first packets
						1 << 31,      // 2³¹ later
						1<<32 - 10,   // passes 2³²
						1<<33 - 5000, // nearly as far as a window of 4096 allows
						1<<33 - 10,
						5<<31 - 10, // passes no multiple of 2³²
						3<<32 - 20, // stays below 3·2³²
						7<<31 + 1,  // skips 3·2³²
					} {
						for _, id := range w.numbered() {
							w.a.SetSeq(id, start-1)
						}
						w.exchange(n, 20)
						n += 20
						a, b := w.outermost(w.a), w.outermost(w.b)
						if a.Seq != start+19 || b.Seq != start+19 || !a.ESN || !b.ESN || b.Window != window {
							t.Fatalf("lists %d, %v and %d, %v, window %d; want %d and ESN, window %d", a.Seq, a.ESN, b.Seq, b.ESN, b.Window, start+19, window)
						}
					}
				})
			}
		}
	}
}

// TestWindows fills windows of many sizes. Each number in them is accepted once, in any
// order, and no number below them.
func TestWindows(t *testing.T) {
	for _, l := range []layer{gcm, ah256} {
		for _, version := range []int{4, 6} {
			for _, window := range []int{1, 32, 64, 65, 1000, 4096} {
				for _, esn := range []bool{false, true} {
					t.Run(fmt.Sprintf("%v/%d/%d/%v", l.proto, version, window, esn), func(t *testing.T) {
						w := newWireTap(t, []layer{tun, l}, version, uint32(window), esn)
						start := uint64(1)
						if esn {
							start = 1<<32 - uint64(window)/2 - 1
							w.a.SetSeq(w.ids[1], start-1)
							w.arrive(w.send(0, 1)...)
						}
						w.exchange(1, window)
						// The packet after the next one moves the window by two.
						wire := w.send(1+window, 2)
						if got := w.arrive(wire[1]); len(got) != 1 {
							t.Fatalf("the one after the next: %d came out", len(got))
						}
						late := 1
						if window == 1 {
							late = 0
						}
						if got := w.arrive(wire[0]); len(got) != late {
							t.Fatalf("the next, late: %d came out, want %d", len(got), late)
						}
						// Leave out a number until it is below the window.
						hole := w.send(3+window, 1)
						rest := w.send(4+window, window)
						if got := w.arrive(rest[:window-1]...); len(got) != window-1 {
							t.Fatalf("%d came out, want %d", len(got), window-1)
						}
						before := w.outermost(w.b)
						if window == 1 {
							w.arrive(rest...)
						} else if got := w.arrive(slices.Concat(hole, rest[window-1:])...); len(got) != 2 {
							t.Fatalf("the oldest in the window and the next: %d came out, want 2", len(got))
						}
						if got := w.arrive(hole...); len(got) != 0 {
							t.Fatalf("older than the window: %d came out", len(got))
						}
						after := w.outermost(w.b)
						// With ESN it counts as one of the next 2³² numbers, see below.
						d := after.ReplayErrs - before.ReplayErrs
						if esn {
							d = after.AuthErrs - before.AuthErrs
						}
						if d != 1 && window > 1 {
							t.Errorf("older than the window: counts %d, want 1: %+v", d, after)
						}
					})
				}
			}
		}
	}
}

// TestOlderThanWindow: with 32 bits such a packet is a replay. With 64 bits its number
// counts as one of the next 2³², and its ICV is then wrong.
func TestOlderThanWindow(t *testing.T) {
	for _, esn := range []bool{false, true} {
		w := newWireTap(t, []layer{tun, gcm}, 4, 64, esn)
		wire := w.send(0, 66)
		if got := w.arrive(wire[1:]...); len(got) != 65 {
			t.Fatalf("%d packets came out, want 65", len(got))
		}
		if got := w.arrive(wire[0]); len(got) != 0 {
			t.Fatalf("ESN %v: a packet older than the window came out", esn)
		}
		sa := w.outermost(w.b)
		if esn && (sa.AuthErrs != 1 || sa.ReplayErrs != 0) || !esn && (sa.AuthErrs != 0 || sa.ReplayErrs != 1) || sa.Seq != 66 {
			t.Errorf("ESN %v: counts %d forgeries, %d replays, newest %d", esn, sa.AuthErrs, sa.ReplayErrs, sa.Seq)
		}
	}
}

// TestESNForged: a packet with a wrong ICV never moves the window.
func TestESNForged(t *testing.T) {
	for _, l := range []layer{aes, gcm, ah256} {
		w := newWireTap(t, []layer{tun, l}, 4, 64, true)
		w.a.SetSeq(w.ids[1], 1<<32-6)
		w.arrive(w.send(0, 1)...)
		w.exchange(1, 10)
		before := w.outermost(w.b)
		good := w.send(11, 1)[0]
		at := 24 // of the number in ESP
		if l.proto == klips.ProtoAH {
			at = 28
		}
		numbers := []uint32{0x80000000, 0xfffffff0, 0xfffffff9, 0xffffff00, 0x40000000, 1000}
		for _, n := range numbers {
			p := bytes.Clone(good)
			binary.BigEndian.PutUint32(p[at:], n)
			if got := w.arrive(p); len(got) != 0 {
				t.Fatalf("number %#x: came out", n)
			}
		}
		after := w.outermost(w.b)
		if int(after.AuthErrs) != len(numbers) || after.Seq != before.Seq || after.Bitmap != before.Bitmap {
			t.Errorf("%v: after forgeries %+v, before %+v", l.proto, after, before)
		}
		if got := w.arrive(good); len(got) != 1 || !bytes.Equal(got[0], w.clear(11)) {
			t.Errorf("%v: the good packet does not come out", l.proto)
		}
	}
}

// TestESNBothEnds: both ends must have extended numbers, or none.
func TestESNBothEnds(t *testing.T) {
	for _, esn := range []bool{false, true} {
		a := newWireTap(t, []layer{tun, aes}, 4, 64, esn)
		b := newWireTap(t, []layer{tun, aes}, 4, 64, !esn)
		if got := b.arrive(a.send(0, 1)...); len(got) != 0 || b.outermost(b.b).AuthErrs != 1 {
			t.Errorf("sender with ESN %v, receiver not: %d came out", esn, len(got))
		}
	}
}

// TestLastNumber: the last sequence number is sent. The next packet removes the SA, so no
// number is sent twice.
func TestLastNumber(t *testing.T) {
	for _, esn := range []bool{false, true} {
		for _, l := range []layer{gcm, ah256} {
			w := newWireTap(t, []layer{tun, l}, 4, 64, esn)
			last := uint64(math.MaxUint32)
			if esn {
				last = math.MaxUint64
				w.b.SetReceived(w.ids[1], last-5)
			}
			w.a.SetSeq(w.ids[1], last-2)
			w.exchange(0, 2)
			if a, b := w.outermost(w.a), w.outermost(w.b); a.Seq != last || b.Seq != last {
				t.Errorf("ESN %v: lists %#x and %#x, want %#x", esn, a.Seq, b.Seq, last)
			}
			w.ha.Link("ipsec0").Send(w.clear(2))
			w.ha.Settle()
			if n := len(w.out.Sent()); n != 2 {
				t.Errorf("ESN %v: %d packets were sent, want 2", esn, n)
			}
			if s := w.stats(w.a); s.TxErrors != 1 {
				t.Errorf("ESN %v: %+v, want one error", esn, s)
			}
			if _, err := w.a.GetSA(t.Context(), w.ids[1]); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("ESN %v: GetSA = %v, want ESRCH", esn, err)
			}
		}
	}
}
