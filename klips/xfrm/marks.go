package xfrm

import (
	"context"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// ahead is how many numbers are reserved for a new state. Only the next command can see
// how many it has used.
const ahead = 1 << 24

// marksPatience is how long a command waits while another command holds the marks.
const marksPatience = time.Second

// KeepMarks sets the directory of the marks; empty: none are kept.
func (s *Stack) KeepMarks(dir string) { s.statedir = dir }

// Marks returns the directory of the marks and how many keys it has, or why marks are
// not kept.
func (s *Stack) Marks(ctx context.Context) (dir string, keys int, err error) {
	if s.statedir == "" {
		return "", 0, nil
	}
	f, err := s.openMarks(ctx)
	if err != nil {
		return s.statedir, 0, err
	}
	keys = f.Len()
	return s.statedir, keys, f.Close()
}

func (s *Stack) openMarks(ctx context.Context) (*marks.File, error) {
	ctx, cancel := context.WithTimeout(ctx, marksPatience)
	defer cancel()
	return marks.Open(ctx, s.statedir, time.Now, func(what string) { s.noteLost(damage(what)) })
}

// damage describes damaged marks.
type damage string

func (d damage) Error() string { return string(d) }

// A lost is what is wrong with the marks. It is reported in the outcome of the change
// that should have kept them.
type lost struct {
	mu    sync.Mutex
	noted bool
	err   error // a damage, or why marks are not kept; nil after it was reported
}

// noteLost notes the first fault of the marks.
func (s *Stack) noteLost(err error) {
	s.lost.mu.Lock()
	defer s.lost.mu.Unlock()
	if !s.lost.noted {
		s.lost.noted, s.lost.err = true, err
	}
}

// take moves the fault into the outcome of a change, once.
func (l *lost) take(o *klips.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.err.(damage); ok {
		o.Notes = append(o.Notes, d.Error())
	} else {
		o.MarksLost = l.err
	}
	l.err = nil
}

// numbered reports whether a state has sequence numbers.
func numbered(st *nlxfrm.State) bool {
	return st.Proto == uint8(klips.ProtoESP) || st.Proto == uint8(klips.ProtoAH)
}

// markKey returns the key of a state in the marks, the same as for an SA of stack user.
func markKey(f *marks.File, st *nlxfrm.State) marks.Key {
	spec := klips.SASpec{ID: said(st), ESN: st.Flags&nlxfrm.FlagESN != 0}
	spec.Transform, _, _ = algorithms(st)
	if st.Auth != nil {
		spec.AuthKey = st.Auth.Key
	}
	switch {
	case st.AEAD != nil:
		spec.EncKey = st.AEAD.Key
	case st.Crypt != nil:
		spec.EncKey = st.Crypt.Key
	}
	return f.Key(&spec)
}

// A marking is what one change does to the marks. Nil: nothing.
type marking struct {
	s    *Stack
	file *marks.File
	made map[marks.Key]marks.Mark    // the marks before
	gone map[nlxfrm.ID]*nlxfrm.State // those that the change removes
	keys map[nlxfrm.ID]marks.Key     // of gone
}

// marking gives the new SAs of a change the numbers to continue from, and reserves the
// next ones, also for SAs in the tables that have used many. Numbers in the request have
// priority over the mark. EKEYEXPIRED: a key has none left.
func (s *Stack) marking(ctx context.Context, t *tables, have *objects) (*marking, error) {
	if s.statedir == "" {
		return nil, nil
	}
	m := &marking{s: s, made: map[marks.Key]marks.Mark{}, gone: map[nlxfrm.ID]*nlxfrm.State{}, keys: map[nlxfrm.ID]marks.Key{}}
	var made, busy []*sa
	stays := map[nlxfrm.ID]bool{}
	for _, sa := range t.sas {
		if sa.state == nil || !numbered(sa.state) {
			continue
		}
		switch {
		case sa.made:
			made = append(made, sa)
		default:
			stays[sa.state.ID] = true
			if sentBy(sa.state.Replay, sa.state.ReplayESN) >= ahead/2 {
				busy = append(busy, sa)
			}
		}
	}
	for id, st := range have.states {
		if !stays[id] && numbered(st) {
			m.gone[id] = st
		}
	}
	if len(made)+len(busy)+len(m.gone) == 0 {
		return nil, nil
	}
	var err error
	if m.file, err = s.openMarks(ctx); err != nil {
		s.noteLost(err)
		return nil, nil
	}
	for id, st := range m.gone {
		m.keys[id] = markKey(m.file, st)
	}
	for _, sa := range made {
		if err := m.begin(sa); err != nil {
			m.done(nil, err)
			return nil, err
		}
	}
	for _, sa := range busy {
		m.goOn(sa.state)
	}
	if err := m.file.Sync(); err != nil {
		s.noteLost(err)
	}
	return m, nil
}

// begin gives a new SA its numbers.
func (m *marking) begin(sa *sa) error {
	k := markKey(m.file, sa.state)
	if k == (marks.Key{}) {
		return nil
	}
	mark := m.file.Get(k)
	if old := m.gone[sa.state.ID]; old != nil && m.keys[sa.state.ID] == k {
		// It replaces an SA that the same change removes.
		mark.Sent, mark.Received = after(old, old.Replay, old.ReplayESN), max(mark.Received, receivedBy(old.Replay, old.ReplayESN))
		delete(m.gone, sa.state.ID)
	}
	m.made[k] = mark
	esn, wraps := sa.state.Flags&nlxfrm.FlagESN != 0, sa.state.ExtraFlags&nlxfrm.ExtraOSeqMayWrap != 0
	sent, received := mark.Sent, mark.Received
	switch {
	case sa.seq != nil:
		sent = *sa.seq
	case wraps: // the receiver ignores the numbers
		sent &= math.MaxUint32
	case !esn && sent >= math.MaxUint32:
		return &klips.OpError{Object: sa.id.String(), Err: syscall.EKEYEXPIRED, Fault: klips.FaultNoNumbers}
	}
	if sa.replaySeq != nil {
		received = *sa.replaySeq
	}
	m.file.Set(k, marks.Mark{Sent: sum(sent, ahead), Received: received})
	if windowOf(sa.state) == 0 || !esn && received > math.MaxUint32 {
		received = 0
	}
	sa.state = resume(sa.state, sent, received)
	return nil
}

// goOn reserves more numbers for a state that has used many.
func (m *marking) goOn(st *nlxfrm.State) {
	k, sent := markKey(m.file, st), sentBy(st.Replay, st.ReplayESN)
	if mark := m.file.Get(k); k != (marks.Key{}) && sum(sent, ahead/2) > mark.Sent {
		m.file.Set(k, marks.Mark{Sent: sum(sent, ahead), Received: mark.Received})
	}
}

// done keeps the numbers of removed states after a successful change, or returns the
// reserved numbers after a failed one. It closes the marks.
func (m *marking) done(left map[nlxfrm.ID]*nlxfrm.AE, err error) {
	if m == nil {
		return
	}
	if err != nil {
		for k, mark := range m.made {
			// A state may have existed for a moment.
			m.file.Set(k, marks.Mark{Sent: sum(mark.Sent, seqGap), Received: mark.Received})
		}
	} else {
		for id, st := range m.gone {
			k, ae := m.keys[id], left[id]
			if k == (marks.Key{}) || ae == nil {
				continue
			}
			if ae.Current != nil {
				st.Current = *ae.Current
			}
			mark := marks.Mark{Sent: after(st, ae.Replay, ae.ReplayESN), Received: receivedBy(ae.Replay, ae.ReplayESN)}
			if mark.Received == 0 {
				mark.Received = m.file.Get(k).Received // it may have had no window
			}
			m.file.Set(k, mark)
		}
	}
	if err := m.file.Close(); err != nil {
		m.s.noteLost(err)
	}
}

// sentBy returns the last number sent.
func sentBy(r *nlxfrm.Replay, e *nlxfrm.ReplayESN) uint64 {
	switch {
	case e != nil:
		return uint64(e.OutSeqHigh)<<32 | uint64(e.OutSeq)
	case r != nil:
		return uint64(r.OutSeq)
	}
	return 0
}

// receivedBy returns the highest number received.
func receivedBy(r *nlxfrm.Replay, e *nlxfrm.ReplayESN) uint64 {
	switch {
	case e != nil:
		return uint64(e.SeqHigh)<<32 | uint64(e.Seq)
	case r != nil:
		return uint64(r.Seq)
	}
	return 0
}

// after returns a number that the state has not passed, if it had these numbers just
// before its removal.
func after(st *nlxfrm.State, r *nlxfrm.Replay, e *nlxfrm.ReplayESN) uint64 {
	n := sentBy(r, e)
	if st.Current.Packets == 0 {
		return n // unused, which is also the case for an inbound state
	}
	if st.Flags&nlxfrm.FlagESN == 0 && n+seqGap > math.MaxUint32 && st.ExtraFlags&nlxfrm.ExtraOSeqMayWrap == 0 {
		return math.MaxUint32
	}
	return sum(n, seqGap)
}

// sum adds without wrapping to 0.
func sum(n, more uint64) uint64 { return n + min(more, math.MaxUint64-n) }
