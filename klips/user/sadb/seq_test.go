package sadb

import (
	"errors"
	"math"
	"sync"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// TestNextSeq has several workers use up the last numbers of an SA: each number is
// returned once, up to the last one.
func TestNextSeq(t *testing.T) {
	for _, esn := range []bool{false, true} {
		s := spec(id(klips.ProtoESP, 0x1000))
		s.ESN, s.Window = esn, 64
		sa, err := New().Add(s, klips.Outbound, sec, nil)
		if err != nil {
			t.Fatal(err)
		}
		last := uint64(math.MaxUint32)
		if esn {
			last = math.MaxUint64
		}
		if got := sa.Info(sec).ESN; got != esn {
			t.Errorf("Info: ESN %v, want %v", got, esn)
		}
		if n, ok := sa.NextSeq(); n != 1 || !ok {
			t.Errorf("ESN %v: the first number is %d, %v", esn, n, ok)
		}
		const count, workers = 5000, 4
		sa.Seq.Store(last - count)
		var mu sync.Mutex
		seen := map[uint64]bool{}
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for {
					exhausted := sa.Exhausted()
					n, ok := sa.NextSeq()
					if !ok {
						if !sa.Exhausted() {
							t.Error("NextSeq fails and Exhausted is false")
						}
						return
					}
					mu.Lock()
					if seen[n] || n <= last-count || exhausted {
						t.Errorf("ESN %v: number %d again or from elsewhere; exhausted before: %v", esn, n, exhausted)
					}
					seen[n] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(seen) != count || !seen[last] {
			t.Errorf("ESN %v: %d numbers were given out, want %d; the last one: %v", esn, len(seen), count, seen[last])
		}
		if _, ok := sa.NextSeq(); ok || sa.Seq.Load() != last {
			t.Errorf("ESN %v: NextSeq goes on after %d", esn, sa.Seq.Load())
		}
	}
}

// TestUpdateESN: an update that turns extended numbers on or off starts from 1; any
// other update continues.
func TestUpdateESN(t *testing.T) {
	for _, tt := range []struct {
		before, after bool
		want          uint64
	}{{false, false, 7}, {true, true, 7}, {false, true, 0}, {true, false, 0}} {
		db := New()
		s := spec(id(klips.ProtoESP, 0x1000))
		s.ESN, s.Window = tt.before, 64
		sa, err := db.Add(s, klips.Outbound, sec, nil)
		if err != nil {
			t.Fatal(err)
		}
		sa.Seq.Store(7)
		s.ESN = tt.after
		if _, sa, err = db.Update(s, klips.Outbound, nil); err != nil {
			t.Fatal(err)
		}
		if got := sa.Seq.Load(); got != tt.want || sa.ESN != tt.after {
			t.Errorf("ESN %v to %v: last number %d, ESN %v, want %d", tt.before, tt.after, got, sa.ESN, tt.want)
		}
	}
}

// TestBegin: a new SA continues from the numbers it is given; an existing SA keeps its
// own.
func TestBegin(t *testing.T) {
	db := New()
	s := spec(id(klips.ProtoESP, 0x1000))
	s.Window, s.Seq, s.ReplaySeq = 32, new(uint64(100)), new(uint64(7))
	sa, err := db.Add(s, klips.Outbound, sec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := sa.NextSeq(); n != 101 || !ok {
		t.Errorf("the first number is %d, %v", n, ok)
	}
	if sa.Replay.Check(7) || !sa.Replay.Check(8) {
		t.Error("number 7 would be taken, or number 8 would not")
	}
	if _, _, err := db.Update(s, klips.Outbound, nil); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("an update with numbers: %v", err)
	}
}

// TestSharedSeq: when only the window changes, the old SA and the new one share one
// counter, since a packet that holds the old one may still be sent.
func TestSharedSeq(t *testing.T) {
	db := New()
	s := spec(id(klips.ProtoESP, 0x1000))
	s.Window = 32
	if _, err := db.Add(s, klips.Outbound, sec, nil); err != nil {
		t.Fatal(err)
	}
	s.Window = 64
	old, sa, err := db.Update(s, klips.Outbound, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := old.NextSeq()
	b, _ := sa.NextSeq()
	if a == b {
		t.Errorf("both send number %d", a)
	}
}
