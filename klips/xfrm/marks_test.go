package xfrm

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// A marked is a stack that has only marks, and one SA.
type marked struct {
	*testing.T
	s    *Stack
	spec klips.SASpec
}

func newMarked(t *testing.T, window uint32, esn bool) *marked {
	m := &marked{T: t, s: &Stack{}, spec: klips.SASpec{
		ID: klips.SAID{Dst: netip.MustParseAddr("192.0.2.1"), SPI: 0x1000, Proto: klips.ProtoESP}, Src: netip.MustParseAddr("192.0.2.2"),
		Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: make([]byte, 20), Window: window, ESN: esn,
	}}
	m.s.KeepMarks(t.TempDir())
	return m
}

// change makes the SA in a kernel that may have its state, and returns the new state
// and a function that ends the change.
func (m *marked) change(there *nlxfrm.State) (*nlxfrm.State, *marking, error) {
	m.Helper()
	made, err := newSA(&m.spec, time.Now())
	if err != nil {
		m.Fatal(err)
	}
	t, have := newTables(), newObjects()
	t.sas[made.id] = made
	if there != nil {
		have.states[there.ID] = there
	}
	k, err := m.s.marking(m.Context(), t, have)
	return made.state, k, err
}

// make makes the SA and returns its state.
func (m *marked) make() *nlxfrm.State {
	m.Helper()
	st, k, err := m.change(nil)
	if err != nil {
		m.Fatal(err)
	}
	k.done(nil, nil)
	return st
}

// remove removes a state after this number of packets, in either direction.
func (m *marked) remove(st *nlxfrm.State, sent, received uint64) {
	m.Helper()
	have := newObjects()
	have.states[st.ID] = st
	k, err := m.s.marking(m.Context(), newTables(), have)
	if err != nil {
		m.Fatal(err)
	}
	k.done(map[nlxfrm.ID]*nlxfrm.AE{st.ID: used(st, sent, received)}, nil)
}

// used returns the kernel's numbers of a state after this number of packets.
func used(st *nlxfrm.State, sent, received uint64) *nlxfrm.AE {
	ae := &nlxfrm.AE{ID: st.ID, Current: &nlxfrm.Current{Packets: sent + received}}
	if st.ReplayESN != nil {
		e := *st.ReplayESN
		n := sentBy(nil, &e) + sent
		e.OutSeqHigh, e.OutSeq = uint32(n>>32), uint32(n)
		if received != 0 {
			e.SeqHigh, e.Seq = uint32(received>>32), uint32(received)
		}
		ae.ReplayESN = &e
		return ae
	}
	ae.Replay = &nlxfrm.Replay{}
	if st.Replay != nil {
		*ae.Replay = *st.Replay
	}
	ae.Replay.OutSeq += uint32(sent)
	if received != 0 {
		ae.Replay.Seq = uint32(received)
	}
	return ae
}

func (m *marked) want(what string, st *nlxfrm.State, sent, received uint64) {
	m.Helper()
	if s, r := sentBy(st.Replay, st.ReplayESN), receivedBy(st.Replay, st.ReplayESN); s != sent || r != received {
		m.Errorf("%s: the state begins with %d sent and %d received, want %d and %d", what, s, r, sent, received)
	}
}

// TestMarks: a state continues from the numbers of a removed one, and far above the
// numbers of one that vanished without a command.
func TestMarks(t *testing.T) {
	for _, tt := range []struct {
		window uint32
		esn    bool
	}{{0, false}, {8, false}, {32, false}, {64, false}, {64, true}, {4096, true}} {
		m := newMarked(t, tt.window, tt.esn)
		st := m.make()
		m.want("first", st, 0, 0)
		received := uint64(0)
		if tt.window != 0 {
			received = 1000
		}
		m.remove(st, 100, received)
		st = m.make()
		m.want("after a removal", st, 100+seqGap, received)
		m.remove(st, 0, 0)
		st = m.make()
		m.want("after one of an SA that was not used", st, 100+seqGap, received)
		st = m.make() // the kernel has restarted
		m.want("after a crash", st, 100+seqGap+ahead, received)
		if tt.window != 0 {
			m.spec.ReplaySeq = new(uint64)
		}
		m.spec.Seq = new(uint64(7))
		st = m.make()
		m.want("with numbers by hand", st, 7, 0)
		m.spec.Seq, m.spec.ReplaySeq = nil, nil
		m.remove(st, 1, 0)
		m.want("after that", m.make(), 8+seqGap, 0)
		if err := m.s.lost.err; err != nil {
			t.Errorf("reported %v", err)
		}
	}
}

// TestMarksWindow: all received numbers are refused, also with a larger window.
func TestMarksWindow(t *testing.T) {
	for _, window := range []uint32{8, 32, 64, 1024} {
		m := newMarked(t, window, window > 32)
		for _, last := range []uint64{1, 5, 31, 32, 33, 1000, 1<<32 - 1} {
			m.spec.ReplaySeq = &last
			st := m.make()
			n := min(last, uint64(window))
			bits := uint64(0)
			if e := st.ReplayESN; e != nil {
				bits, n = newest(e), min(n, 64)
			} else {
				bits = uint64(st.Replay.Bitmap)
			}
			if want := uint64(1)<<n - 1; bits != want && n < 64 || n == 64 && bits != math.MaxUint64 {
				t.Errorf("window %d after %d: bitmap %#x", window, last, bits)
			}
		}
	}
}

// TestMarksUsedUp: an SA without numbers left is refused, and others are not.
func TestMarksUsedUp(t *testing.T) {
	for _, esn := range []bool{false, true} {
		m := newMarked(t, 64, esn)
		m.spec.Seq = new(uint64(math.MaxUint32 - 5))
		st := m.make()
		m.spec.Seq = nil
		m.remove(st, 3, 0)
		_, k, err := m.change(nil)
		var op *klips.OpError
		if got := errors.Is(err, syscall.EKEYEXPIRED) && errors.As(err, &op) && op.Fault == klips.FaultNoNumbers; got == esn {
			t.Errorf("ESN %v: %v", esn, err)
		}
		k.done(nil, err)
	}
	m := newMarked(t, 0, false) // the kernel lets its numbers wrap
	m.spec.Seq = new(uint64(math.MaxUint32 - 5))
	m.make()
	m.spec.Seq = nil
	m.want("without a window", m.make(), ahead-6, 0)
}

// TestMarksOneChange: if one change removes an SA and makes it again, the new one
// continues. The kernel gets its numbers with the new key, whatever that is.
func TestMarksOneChange(t *testing.T) {
	m := newMarked(t, 32, false)
	old := m.make()
	ae := used(old, 10, 20)
	old.Replay, old.Current = ae.Replay, *ae.Current
	st, k, err := m.change(old)
	if err != nil {
		t.Fatal(err)
	}
	k.done(nil, nil)
	m.want("made again", st, 10+seqGap, 20)

	have, want := newObjects(), newObjects()
	have.states[old.ID], want.states[st.ID], want.made[st.ID] = old, st, true
	p, err := diff(have, want, &dump{})
	if err != nil || len(p.rewrites) != 1 || p.rewrites[0].goesOn {
		t.Errorf("a state of one SA in the place of another's: %+v, %v", p.rewrites, err)
	}
}

// TestMarksTakenBack: a change that the kernel refuses costs few numbers.
func TestMarksTakenBack(t *testing.T) {
	m := newMarked(t, 32, false)
	for range 3 {
		_, k, err := m.change(nil)
		if err != nil {
			t.Fatal(err)
		}
		k.done(nil, syscall.ENOMEM)
	}
	m.want("after three refusals", m.make(), 3*seqGap, 0)
}

// TestMarksBusy: the next command reserves more numbers for a state that has used many.
func TestMarksBusy(t *testing.T) {
	m := newMarked(t, 32, false)
	st := m.make()
	st.Replay = &nlxfrm.Replay{OutSeq: ahead - 1}
	tb, have := newTables(), newObjects()
	tb.sas[m.spec.ID] = &sa{id: m.spec.ID, state: st}
	have.states[st.ID] = st
	k, err := m.s.marking(t.Context(), tb, have)
	if err != nil || k == nil {
		t.Fatal(k, err)
	}
	k.done(nil, nil)
	m.want("after a crash", m.make(), 2*ahead-1, 0)
}

// TestMarksLost: a directory that cannot be used is reported once, and no change is
// refused.
func TestMarksLost(t *testing.T) {
	m := newMarked(t, 32, false)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.s.KeepMarks(file)
	m.make()
	m.make()
	var first, second klips.Outcome
	m.s.lost.take(&first)
	m.make()
	m.s.lost.take(&second)
	if !errors.Is(first.MarksLost, syscall.ENOTDIR) || first.Notes != nil || second.MarksLost != nil {
		t.Errorf("reported %+v, then %+v", first, second)
	}
	m.s.KeepMarks("")
	m.make()
}
