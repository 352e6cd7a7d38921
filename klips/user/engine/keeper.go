package engine

import (
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// keepEvery is how often the received numbers are kept.
const keepEvery = time.Second

// retryEvery is the time until the next attempt after the file could not be written.
const retryEvery = 30 * time.Second

// ahead is how many numbers of an SA are reserved at once: some seconds of packets.
const ahead = 1 << 20

// A keeper keeps marks of the SAs' numbers. A packet worker never waits for it. The
// worker sees up to which number the SA's numbers are reserved (sadb.Sent), and wakes the
// keeper early enough to reserve more. The zero value, and a keeper without a file, keep
// nothing.
type keeper struct {
	file  *marks.File
	clock clock.Clock
	lost  func(error)
	work  chan struct{} // with room for one element: run has something to do
	done  chan struct{} // run has returned

	disk   sync.Mutex // held while the file is used; no packet worker takes it
	failed bool       // the file cannot be written; guarded by disk
	retry  time.Time  // time of the next attempt; guarded by disk

	mu     sync.Mutex // guards the fields below; never held while waiting
	sas    map[*sadb.Sent]*kept
	over   []over
	closed bool
}

// A kept is an SA whose mark is kept.
type kept struct {
	sa   *sadb.SA // its number and window
	key  marks.Key
	mark marks.Mark // as it was set last
}

// An over is the last mark of an SA that was removed.
type over struct {
	key  marks.Key
	mark marks.Mark
}

func (k *keeper) open(file *marks.File, c clock.Clock, lost func(error)) {
	k.file, k.clock, k.lost = file, c, lost
	k.sas = map[*sadb.Sent]*kept{}
	if file == nil {
		return
	}
	k.work, k.done = make(chan struct{}, 1), make(chan struct{})
	go k.run()
	k.tick()
}

// run does the work of the keeper until close.
func (k *keeper) run() {
	defer close(k.done)
	for range k.work {
		k.pass()
		if k.isClosed() {
			return
		}
	}
}

// keeps reports whether marks are kept at present.
func (k *keeper) keeps() bool {
	k.disk.Lock()
	defer k.disk.Unlock()
	return k.file != nil && !k.failed
}

func (k *keeper) isClosed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closed
}

// tick wakes the keeper every keepEvery until close.
func (k *keeper) tick() {
	k.clock.AfterFunc(keepEvery, func() {
		if !k.isClosed() {
			k.pass()
			k.tick()
		}
	})
}

// wake makes the keeper look at all SAs. It never waits.
func (k *keeper) wake() {
	select {
	case k.work <- struct{}{}: // never ready if the channel is nil
	default:
	}
}

// A beginning is the state of an SA with a key between keeper.begin and keeper.begun.
type beginning struct {
	spec *klips.SASpec
	key  marks.Key
	mark marks.Mark // the mark of the key as it is known
	same bool       // the SA replaces an SA with the same key
	free bool       // marks cannot be kept now
}

// begin reads the mark of an SA that is to be made, and reserves its next numbers. No SA
// with that SAID may exist, since begin would change its mark. EKEYEXPIRED: the key has
// no numbers left.
func (k *keeper) begin(spec *klips.SASpec) (*beginning, error) {
	return k.beginAnew(spec, nil)
}

// beginAnew is begin for an SA that replaces old, which may be nil.
func (k *keeper) beginAnew(spec *klips.SASpec, old *sadb.SA) (*beginning, error) {
	b := &beginning{spec: spec}
	if k.file == nil || !spec.SeqFits() {
		return b, nil
	}
	k.settle()
	k.disk.Lock()
	defer k.disk.Unlock()
	b.key = k.file.Key(spec)
	if b.key == (marks.Key{}) {
		return b, nil
	}
	if old != nil {
		k.mu.Lock()
		is := k.sas[old.Sent]
		k.mu.Unlock()
		if b.same = is != nil && is.key == b.key; b.same {
			return b, nil
		}
	}
	if k.failed {
		// The mark in the file may be old. The one in memory is right.
		b.mark = k.file.Get(b.key)
	} else {
		var err error
		if b.mark, err = k.file.Begin(b.key); err != nil {
			k.failLocked(err)
		}
	}
	b.free = k.failed
	if spec.Seq == nil && !spec.ESN && b.mark.Sent >= math.MaxUint32 {
		k.file.End(b.key, b.mark)
		return nil, &klips.OpError{Object: spec.ID.String(), Err: syscall.EKEYEXPIRED, Fault: klips.FaultNoNumbers}
	}
	if err := k.byHandLocked(b); err != nil {
		k.failLocked(err)
		b.free = true
	}
	return b, nil
}

// byHandLocked keeps the numbers that a command has set.
func (k *keeper) byHandLocked(b *beginning) error {
	if k.failed || b.spec.Seq == nil && b.spec.ReplaySeq == nil {
		return nil
	}
	m := k.file.Get(b.key)
	if b.spec.ReplaySeq != nil {
		m.Received = *b.spec.ReplaySeq
	}
	if b.spec.Seq != nil {
		m.Sent = reserve(b.spec.ESN, *b.spec.Seq, marks.Unsynced)
	}
	k.file.Set(b.key, m)
	if b.spec.Seq == nil {
		return k.file.Flush()
	}
	return k.file.Sync() // it may be far above the reserved numbers
}

// reserve returns seq + more, or the largest number that an SA may have if that is less.
func reserve(esn bool, seq, more uint64) uint64 {
	most := uint64(math.MaxUint64 - 1) // the largest number of all means no limit
	if !esn {
		most = math.MaxUint32
	}
	return min(seq, most) + min(more, most-min(seq, most))
}

// start sets the first numbers of an SA that no worker can find yet. Numbers that a
// command has set come before the mark.
func (b *beginning) start(sa *sadb.SA) {
	if b.same {
		return
	}
	sa.Began, sa.Remembered = 0, 0 // an SA that replaces another has copied these
	if b.key == (marks.Key{}) {
		return
	}
	if b.spec.Seq == nil {
		sa.Seq.Store(b.mark.Sent)
		sa.Began = b.mark.Sent
	}
	if b.spec.ReplaySeq == nil && sa.Replay.Size() > 0 && b.mark.Received <= sa.MaxSeq() {
		sa.Replay.Resume(b.mark.Received)
		sa.Remembered = b.mark.Received
	}
	if !b.free {
		sa.SetLimit(reserve(sa.ESN, sa.Seq.Load(), marks.Unsynced))
	}
}

// begun keeps marks of an SA that was made. sa is nil if making it has failed: then begun
// takes the reservation of begin back.
func (k *keeper) begun(b *beginning, sa *sadb.SA) {
	if b.key == (marks.Key{}) {
		return
	}
	k.mu.Lock()
	switch {
	case sa == nil && !b.same:
		k.over = append(k.over, over{b.key, b.mark})
	case sa != nil:
		m := b.mark
		if b.spec.ReplaySeq != nil {
			m.Received = *b.spec.ReplaySeq
		}
		if is := k.sas[sa.Sent]; is != nil {
			m = is.mark
		}
		k.sas[sa.Sent] = &kept{sa, b.key, m}
	}
	k.mu.Unlock()
	if sa != nil && sa.State() == klips.Dead {
		k.ended(sa) // it may have expired meanwhile
	}
}

// adopt keeps marks of an SA that another engine has handed over and that no packet uses
// yet. The SA continues with its own number, which is exact.
func (k *keeper) adopt(spec *klips.SASpec, sa *sadb.SA) {
	if k.file == nil || !spec.SeqFits() {
		return
	}
	k.disk.Lock()
	defer k.disk.Unlock()
	key := k.file.Key(spec)
	if key == (marks.Key{}) {
		return
	}
	m, err := k.file.Begin(key)
	if seq := sa.Seq.Load(); err == nil && seq > m.Sent { // the other engine could not write it
		m.Sent = seq
		k.file.Set(key, marks.Mark{Sent: reserve(sa.ESN, seq, marks.Unsynced), Received: m.Received})
		err = k.file.Sync()
	}
	k.mu.Lock()
	k.sas[sa.Sent] = &kept{sa, key, m}
	k.mu.Unlock()
	if err != nil {
		k.failLocked(err)
	} else if !k.failed {
		sa.SetLimit(reserve(sa.ESN, m.Sent, marks.Unsynced))
	}
}

// ended records SAs that were removed. It never waits; settle or the next pass writes
// their marks.
func (k *keeper) ended(sas ...*sadb.SA) {
	if k.file == nil {
		return
	}
	k.mu.Lock()
	for _, sa := range sas {
		if is := k.sas[sa.Sent]; is != nil {
			delete(k.sas, sa.Sent)
			k.over = append(k.over, over{is.key, marks.Mark{Sent: sa.Stop(), Received: is.received()}})
		}
	}
	k.mu.Unlock()
}

// received returns the highest received number for the mark.
func (is *kept) received() uint64 {
	if is.sa.Replay.Size() == 0 {
		return is.mark.Received
	}
	return is.sa.Replay.Last()
}

// settle writes the marks of SAs that were removed. It does not wait until they are on
// the disk, so SAs can be made and removed quickly.
func (k *keeper) settle() {
	if k.file == nil {
		return
	}
	k.disk.Lock()
	defer k.disk.Unlock()
	if k.settleLocked() && !k.failed {
		if err := k.file.Flush(); err != nil {
			k.failLocked(err)
		}
	}
}

// settleLocked sets the marks of SAs that were removed, and reports whether there are
// any.
func (k *keeper) settleLocked() bool {
	k.mu.Lock()
	l := k.over
	k.over = nil
	k.mu.Unlock()
	for _, o := range l {
		k.file.End(o.key, o.mark)
	}
	return len(l) > 0
}

// MarksBehind returns how many SAs have received packets since their marks were kept.
func (e *Engine) MarksBehind() (n int) {
	k := &e.keeper
	k.disk.Lock() // wait for a write that has begun
	defer k.disk.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, is := range k.sas {
		if is.received() != is.mark.Received {
			n++
		}
	}
	return n
}

// pass reserves numbers for SAs that have used half of theirs. It keeps the received
// numbers, and the marks of removed SAs. If the file cannot be written, the SAs continue
// without marks until it can.
func (k *keeper) pass() {
	k.disk.Lock()
	defer k.disk.Unlock()
	k.settleLocked()
	if k.failed && k.clock.Now().Before(k.retry) && !k.isClosed() {
		return
	}
	k.mu.Lock()
	limits := make(map[*kept]uint64)
	for _, is := range k.sas {
		sent := is.sa.Limit() // no limit if the file could not be written
		if seq := is.sa.Seq.Load(); k.failed || sent == math.MaxUint64 || is.sa.IsLow(seq) || sent-seq < ahead/2 {
			sent = reserve(is.sa.ESN, seq, ahead)
			limits[is] = sent
		}
		if m := (marks.Mark{Sent: sent, Received: is.received()}); m != is.mark {
			is.mark = m
			k.file.Set(is.key, m)
		}
	}
	k.mu.Unlock()
	if err := k.file.Sync(); err != nil {
		k.failLocked(err)
		return
	}
	k.mu.Lock()
	for is, limit := range limits {
		is.sa.SetLimit(limit)
	}
	k.mu.Unlock()
	if k.failed {
		k.failed = false
		k.tell(nil)
	}
}

// failLocked makes all SAs continue without marks. It reports the first error only.
func (k *keeper) failLocked(err error) {
	k.mu.Lock()
	for _, is := range k.sas {
		is.sa.SetLimit(math.MaxUint64)
	}
	k.mu.Unlock()
	k.retry = k.clock.Now().Add(retryEvery)
	if !k.failed {
		k.failed = true
		k.tell(err)
	}
}

func (k *keeper) tell(err error) {
	if k.lost != nil {
		k.lost(err)
	}
}

// close keeps the last marks. All SAs must have been removed before.
func (k *keeper) close() {
	if k.file == nil {
		return
	}
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.wake() // if it does nothing, run has work already, or has returned
	<-k.done
	k.pass()
}
