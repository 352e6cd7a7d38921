package engine_test

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A keeping is two hosts that keep marks: one sends, one receives. The test carries the
// packets. begin starts both again.
type keeping struct {
	*wireTap
	esn    bool
	window uint32
	d      daemon // at the receiver
	dirs   [2]string
	files  [2]*marks.File

	mu   sync.Mutex
	lost []error // errors that the sender has reported
}

var said1 = klips.SAID{Dst: gwB4, SPI: 0x1000, Proto: klips.ProtoESP}

func newKeeping(t *testing.T, window uint32, esn bool) *keeping {
	k := &keeping{esn: esn, window: window, dirs: [2]string{t.TempDir(), t.TempDir()}}
	k.begin(t)
	return k
}

// begin starts both hosts, with devices and an eroute, but without SAs.
func (k *keeping) begin(t *testing.T) {
	k.wireTap = &wireTap{out: new(klipstest.Network), rand: seeded(t), src: gwA4, dst: gwB4, ids: []klips.SAID{said1}}
	p := &pair{t: t, net: k.out, clock: clocktest.New()}
	k.pair = p
	p.ha = klipstest.NewHost(k.out, []netip.Addr{gwA4, gwA6}, "eth0")
	p.hb = klipstest.NewHost(new(klipstest.Network), []netip.Addr{gwB4, gwB6}, "eth0")
	for i, dir := range k.dirs {
		f, err := marks.Open(t.Context(), dir, p.clock.Now, func(what string) { t.Error(what) })
		p.must(err)
		k.files[i] = f
	}
	p.a = openWith(t, p.ha, engine.Config{Clock: p.clock, Marks: k.files[0], MarksLost: func(err error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.lost = append(k.lost, err)
	}})
	p.b = openWith(t, p.hb, engine.Config{Clock: p.clock, Marks: k.files[1]})
	p.b.SetEvents(&k.d)
	for _, e := range []*engine.Engine{p.a, p.b} {
		p.must(e.Attach(t.Context(), "ipsec0", "eth0"))
	}
	sel := klips.Selector{Src: netip.PrefixFrom(gwA4, 32), Dst: netip.PrefixFrom(gwB4, 32)}
	p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: sel, ID: said1}, klips.ErouteAdd))
}

func (k *keeping) spec() *klips.SASpec {
	return &klips.SASpec{ID: said1, Src: gwA4, Transform: gcm.tr, EncKey: testKey(20), Window: k.window, ESN: k.esn}
}

// add makes the SA at both.
func (k *keeping) add() {
	k.t.Helper()
	for _, e := range []*engine.Engine{k.a, k.b} {
		k.must(e.AddSA(k.t.Context(), k.spec()))
	}
}

// end closes both engines.
func (k *keeping) end() {
	k.t.Helper()
	for i, e := range []*engine.Engine{k.a, k.b} {
		k.must(e.Close())
		k.must(k.files[i].Close())
	}
}

// kill ends both, and leaves the files with the marks as they are now.
func (k *keeping) kill() {
	k.t.Helper()
	var now [2][]byte
	for i, dir := range k.dirs {
		b, err := os.ReadFile(filepath.Join(dir, "marks"))
		k.must(err)
		now[i] = b
	}
	k.end()
	for i, dir := range k.dirs {
		k.must(os.WriteFile(filepath.Join(dir, "marks"), now[i], 0o600))
	}
}

// number returns the sequence number of a packet on the wire.
func number(p []byte) uint32 {
	h, _ := packet.ParseIP(p)
	e := p[h.Len:]
	return uint32(e[4])<<24 | uint32(e[5])<<16 | uint32(e[6])<<8 | uint32(e[7])
}

func (k *keeping) sa(e *engine.Engine) klips.SA {
	k.t.Helper()
	sa, err := e.GetSA(k.t.Context(), said1)
	k.must(err)
	return sa
}

// TestMarks: replayed packets are refused and new packets are accepted after an SA was
// made again, after Close and after a kill.
func TestMarks(t *testing.T) {
	for _, tt := range []struct {
		window uint32
		esn    bool
	}{{32, false}, {1024, false}, {64, true}, {4096, true}} {
		for _, how := range []string{"delete", "clear", "end", "kill"} {
			t.Run(fmt.Sprintf("window %d, ESN %v, %s", tt.window, tt.esn, how), func(t *testing.T) {
				k := newKeeping(t, tt.window, tt.esn)
				k.add()
				recorded := k.send(0, 5)
				if got := k.arrive(recorded...); len(got) != 5 || number(recorded[4]) != 5 {
					t.Fatalf("%d of 5 packets came, the last with number %d", len(got), number(recorded[4]))
				}
				k.clock.Advance(time.Second)
				switch how {
				case "delete":
					k.must(k.a.DeleteSA(t.Context(), said1))
					k.must(k.b.DeleteSA(t.Context(), said1))
				case "clear":
					k.must(k.a.ClearSAs(t.Context()))
					k.must(k.b.ClearSAs(t.Context()))
				case "end":
					k.end()
					k.begin(t)
				case "kill":
					k.kill()
					k.begin(t)
				}
				k.add()
				if got := k.arrive(recorded...); len(got) != 0 {
					t.Errorf("%d recorded packets are taken", len(got))
				}
				if sa := k.sa(k.b); sa.BelowMark != 5 || sa.Seq != 5 {
					t.Errorf("%d packets count as below the mark, want 5; the number is %d", sa.BelowMark, sa.Seq)
				}
				if want := []string{fmt.Sprint(said1, " ", 5)}; !slices.Equal(k.d.below, want) {
					t.Errorf("reported %q, want %q", k.d.below, want)
				}
				sent := k.send(5, 3)
				if n := number(sent[0]); how != "kill" && n != 6 || n < 6 {
					t.Errorf("the next number is %d", n)
				}
				if got := k.arrive(sent...); len(got) != 3 {
					t.Errorf("%d of 3 new packets are taken", len(got))
				}
				k.end()
			})
		}
	}
}

// TestMarksOfHand: numbers that a command sets come before the mark, and become the mark.
func TestMarksOfHand(t *testing.T) {
	k := newKeeping(t, 64, false)
	k.add()
	recorded := k.send(0, 9)
	k.arrive(recorded...)
	k.must(k.b.DeleteSA(t.Context(), said1))
	s := k.spec()
	s.ReplaySeq = new(uint64)
	k.must(k.b.AddSA(t.Context(), s))
	if got := k.arrive(recorded[:2]...); len(got) != 2 {
		t.Errorf("after --replay-seq 0, %d of 2 packets are taken", len(got))
	}
	if sa := k.sa(k.b); sa.BelowMark != 0 || sa.Seq != 2 {
		t.Errorf("%d below the mark, number %d", sa.BelowMark, sa.Seq)
	}
	for _, n := range []uint64{3, 1 << 30} {
		k.must(k.a.DeleteSA(t.Context(), said1))
		s = k.spec()
		s.Seq = &n
		k.must(k.a.AddSA(t.Context(), s))
		if got := number(k.send(0, 1)[0]); uint64(got) != n+1 {
			t.Errorf("after --seq %d the next number is %d", n, got)
		}
	}
	k.kill()
	k.begin(t)
	k.add()
	if got := number(k.send(0, 1)[0]); got <= 1<<30+1 {
		t.Errorf("after a kill the next number is %d", got)
	}
	// Perhaps no received number was kept in time.
	if sa := k.sa(k.b); sa.Seq != 0 && sa.Seq != 2 {
		t.Errorf("the receiver begins at %d", sa.Seq)
	}
	k.end()
}

// TestMarksExists: if an SA is refused because it exists, its mark does not change.
func TestMarksExists(t *testing.T) {
	k := newKeeping(t, 64, false)
	k.add()
	k.clock.Advance(time.Second)
	before := k.files[0].Get(k.files[0].Key(k.spec()))
	s := k.spec()
	s.Seq, s.ReplaySeq = new(uint64(3)), new(uint64(4))
	if err := k.a.AddSA(t.Context(), s); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("AddSA = %v", err)
	}
	if after := k.files[0].Get(k.files[0].Key(k.spec())); after != before {
		t.Errorf("the mark was %+v and is %+v", before, after)
	}
	k.end()
}

// TestMarksUsedUp: an SA whose key has no numbers left is refused.
func TestMarksUsedUp(t *testing.T) {
	k := newKeeping(t, 64, false)
	s := k.spec()
	s.Seq = new(uint64(math.MaxUint32 - 1))
	k.must(k.a.AddSA(t.Context(), s))
	if n := number(k.send(0, 1)[0]); n != math.MaxUint32 {
		t.Errorf("the last number is %d", n)
	}
	k.must(k.a.DeleteSA(t.Context(), said1))
	var op *klips.OpError
	if err := k.a.AddSA(t.Context(), k.spec()); !errors.Is(err, syscall.EKEYEXPIRED) || !errors.As(err, &op) || op.Fault != klips.FaultNoNumbers {
		t.Errorf("AddSA = %v", err)
	}
	s = k.spec()
	s.ESN = true
	k.must(k.a.AddSA(t.Context(), s)) // its key is not the same
	k.end()
}

// TestMarksLimit: every number that is sent is reserved in the file.
func TestMarksLimit(t *testing.T) {
	k := newKeeping(t, 64, false)
	k.add()
	last := uint32(0)
	for i := range 40 {
		if limit := k.a.Limit(said1); limit > uint64(last)+3 {
			k.a.SetSeq(said1, limit-3)
		}
		for range 5 {
			k.ha.Link("ipsec0").Send(k.clear(i))
		}
		k.ha.Settle()
		all := k.out.Sent()
		for _, p := range all[k.taken:] {
			if n := number(p); n <= last {
				t.Fatalf("number %d after %d", n, last)
			} else {
				last = n
			}
		}
		k.taken = len(all)
		if limit := k.files[0].Get(k.files[0].Key(k.spec())).Sent; uint64(last) > limit {
			t.Fatalf("number %d was sent, and %d are reserved", last, limit)
		}
	}
	if last == 0 {
		t.Error("nothing was sent")
	}
	k.clock.Advance(time.Second) // the keeper has reserved new ones
	k.send(0, 5)
	k.end()
}

// TestMarksLost: a file that cannot be written any more stops no SA, and is reported
// once.
func TestMarksLost(t *testing.T) {
	k := newKeeping(t, 64, false)
	k.add()
	k.send(0, 1)
	k.must(k.files[0].Close())
	s := k.spec()
	s.ID.SPI++
	s.EncKey[0]++
	k.must(k.a.AddSA(t.Context(), s)) // the first SA that finds the error
	for range 3 {
		k.a.SetSeq(said1, k.sa(k.a).Seq+1<<24)
		k.clock.Advance(time.Minute)
		k.send(0, 5)
	}
	k.must(k.a.DeleteSA(t.Context(), said1))
	k.must(k.a.AddSA(t.Context(), k.spec()))
	k.a.SetSeq(said1, k.sa(k.a).Seq+1<<24)
	k.clock.Advance(time.Minute)
	k.send(0, 1)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.lost) != 1 || k.lost[0] == nil {
		t.Errorf("reported %v", k.lost)
	}
}

// TestMarksUpdate: if only the window or lifetimes change, an SA continues with its
// numbers. If it gets a new key, it continues with the mark of that key.
func TestMarksUpdate(t *testing.T) {
	k := newKeeping(t, 64, false)
	k.add()
	k.send(0, 5)
	other := k.spec()
	other.EncKey[0]++
	k.must(k.a.UpdateSA(t.Context(), other))
	if n := number(k.send(0, 7)[0]); n != 1 {
		t.Errorf("with a new key the first number is %d", n)
	}
	k.clock.Advance(10 * time.Second)
	wider := k.spec()
	wider.Window = 128
	k.must(k.a.UpdateSA(t.Context(), wider))
	if n := number(k.send(0, 1)[0]); n != 6 {
		t.Errorf("with the first key the next number is %d", n)
	}
	k.must(k.a.UpdateSA(t.Context(), k.spec()))
	if n := number(k.send(0, 1)[0]); n != 7 {
		t.Errorf("with another window the next number is %d", n)
	}
	k.clock.Advance(10 * time.Second)
	k.end()
	for _, s := range []*klips.SASpec{k.spec(), other} {
		k.begin(t)
		k.must(k.a.AddSA(t.Context(), s))
		if n := number(k.send(0, 1)[0]); n != 8 {
			t.Errorf("after the end the next number is %d, want 8", n)
		}
		k.end()
	}
}

// handOver replaces the engine of each host by the next one.
func (k *keeping) handOver(t *testing.T) {
	t.Helper()
	for i, e := range []**engine.Engine{&k.a, &k.b} {
		s := (*e).HandOver()
		k.must(k.files[i].Close())
		f, err := marks.Open(t.Context(), k.dirs[i], k.clock.Now, func(what string) { t.Error(what) })
		k.must(err)
		k.files[i] = f
		h := k.ha
		if i == 1 {
			h = k.hb
		}
		*e, err = engine.New(h, engine.Config{Clock: k.clock, Marks: f, State: s})
		k.must(err)
		s.Clear()
		t.Cleanup(func() { (*e).Close() })
	}
	k.b.SetEvents(&k.d)
}

// TestMarksHandedOver: an SA that was handed over continues with the next number, and its
// mark is kept as before. Even after a kill no number is sent twice.
func TestMarksHandedOver(t *testing.T) {
	for _, esn := range []bool{false, true} {
		k := newKeeping(t, 64, esn)
		k.add()
		recorded := k.send(0, 5)
		k.arrive(recorded...)
		for range 2 {
			k.handOver(t)
		}
		more := k.send(0, 3)
		if got := number(more[0]); got != 6 {
			t.Errorf("ESN %v: the next number is %d, want 6", esn, got)
		}
		if got := k.arrive(append(recorded, more...)...); len(got) != 3 {
			t.Errorf("ESN %v: %d packets are taken, want the 3 new ones", esn, len(got))
		}
		k.clock.Advance(time.Second)
		k.kill()
		k.begin(t)
		k.add()
		if got := k.arrive(append(recorded, more...)...); len(got) != 0 {
			t.Errorf("ESN %v: %d recorded packets are taken after a kill", esn, len(got))
		}
		if got := number(k.send(0, 1)[0]); got <= 8 {
			t.Errorf("ESN %v: after a kill the next number is %d, which was used", esn, got)
		}
	}
}
