package replay

import (
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestExamples: the windows decide as KLIPS and RFC 4303 do.
func TestExamples(t *testing.T) {
	for _, e := range Examples() {
		if err := e.Check(); err != nil {
			t.Errorf("%s: %v", e.Source, err)
		}
		for i := range e.Steps {
			for name, change := range map[string]func(s *Step){
				"decision": func(s *Step) { s.Accepted = !s.Accepted },
				"last":     func(s *Step) { s.Last++ },
				"bitmap":   func(s *Step) { s.Bitmap ^= 2 },
				"gap":      func(s *Step) { s.MaxDiff++ },
			} {
				w := Example{Source: e.Source, Size: e.Size, Steps: slices.Clone(e.Steps)}
				change(&w.Steps[i])
				if w.Check() == nil {
					t.Errorf("%s with another %s in step %d passes", e.Source, name, i)
				}
			}
		}
	}
}

// TestExtensions: sequence numbers are extended as RFC 4303 does it.
func TestExtensions(t *testing.T) {
	for _, e := range Extensions() {
		if err := e.Check(); err != nil {
			t.Errorf("%s: %v", e.Source, err)
		}
		if e.Want++; e.Check() == nil {
			t.Errorf("%s with another number passes", e.Source)
		}
	}
	for _, low := range []uint32{0, 1, 0xffffffff} {
		if got := at(0, 0).Extend(low); got != uint64(low) {
			t.Errorf("no window: Extend(%#x) = %#x", low, got)
		}
	}
}

func TestNoWindow(t *testing.T) {
	var w Window
	for _, s := range []uint64{5, 5, 0, 1, 1 << 40} {
		if !w.Check(s) || !w.Update(s) {
			t.Errorf("no window rejects %d", s)
		}
	}
	if w.Last() != 0 || w.Bitmap() != 0 || w.MaxDiff() != 0 || w.Size() != 0 {
		t.Errorf("no window remembers: %d, %#x, %d, %d", w.Last(), w.Bitmap(), w.MaxDiff(), w.Size())
	}
}

func TestInit(t *testing.T) {
	for _, tt := range []struct{ size, want uint32 }{{0, 0}, {1, 1}, {64, 64}, {65, 65}, {4096, 4096}, {5000, 4096}, {1 << 31, 4096}} {
		var w Window
		w.Init(tt.size)
		if got := w.Size(); got != tt.want {
			t.Errorf("Init(%d): Size() = %d, want %d", tt.size, got, tt.want)
		}
	}
	var w Window
	w.Init(128)
	w.Update(77)
	w.Init(64)
	if w.Last() != 0 || !w.Check(1) || !w.Update(77) {
		t.Error("Init does not empty the window")
	}
}

// An oracle is the set of all accepted numbers.
type oracle struct {
	size, last, maxDiff uint64
	seen                map[uint64]bool
}

func (o *oracle) check(seq uint64) bool {
	return seq != 0 && !o.seen[seq] && (seq > o.last || o.last-seq < o.size)
}

func (o *oracle) update(seq uint64) bool {
	if !o.check(seq) {
		return false
	}
	o.seen[seq] = true
	if seq > o.last {
		o.maxDiff = max(o.maxDiff, min(seq-o.last-1, 1<<32-1))
		o.last = seq
	}
	return true
}

// bitmap returns the newest n bits.
func (o *oracle) bitmap(n uint64) (b uint64) {
	for i := range min(n, 64) {
		if o.last >= i && o.seen[o.last-i] {
			b |= 1 << i
		}
	}
	return b
}

func TestOracle(t *testing.T) {
	sizes := []uint32{1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 192, 1000, 4095, 4096}
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.SampledFrom(sizes).Draw(r, "size")
		var w Window
		w.Init(size)
		o := oracle{size: uint64(size), seen: map[uint64]bool{}}
		base := rapid.SampledFrom([]uint64{0, 0, 1<<32 - 100, 1 << 63}).Draw(r, "base")
		next := base
		for range rapid.IntRange(1, 200).Draw(r, "packets") {
			var seq uint64
			switch rapid.IntRange(0, 9).Draw(r, "kind") {
			case 0:
				seq = next + rapid.Uint64Range(0, 3*uint64(size)).Draw(r, "jump")
			case 1:
				seq = next + rapid.SampledFrom([]uint64{uint64(size) - 1, uint64(size), uint64(size) + 1, 64, 63, 65, 1 << 33}).Draw(r, "edge")
			case 2, 3, 4:
				seq = next - min(next, rapid.Uint64Range(0, uint64(size)+70).Draw(r, "back"))
			case 5:
				seq = next - min(next, rapid.SampledFrom([]uint64{uint64(size) - 1, uint64(size), uint64(size) + 1}).Draw(r, "back edge"))
			default:
				seq = next + 1
			}
			want := o.check(seq)
			if got := w.Check(seq); got != want {
				r.Fatalf("size %d, last %d: Check(%d) = %v, want %v", size, o.last, seq, got, want)
			}
			if rapid.IntRange(0, 3).Draw(r, "forged") == 0 {
				continue
			}
			o.update(seq)
			if got := w.Update(seq); got != want {
				r.Fatalf("size %d: Update(%d) = %v, want %v", size, seq, got, want)
			}
			next = o.last
			n := uint64(size) // older bits are history, or are lost
			if got, want := w.Bitmap()<<(64-min(n, 64)), o.bitmap(n)<<(64-min(n, 64)); got != want {
				r.Fatalf("size %d, after %d: Bitmap() = %#x, want %#x", size, seq, got, want)
			}
			if w.Last() != o.last || uint64(w.MaxDiff()) != o.maxDiff {
				r.Fatalf("size %d, after %d: Last() = %d, MaxDiff() = %d, want %d, %d", size, seq, w.Last(), w.MaxDiff(), o.last, o.maxDiff)
			}
		}
	})
}

// TestReaders reads from other goroutines, for the race detector.
func TestReaders(t *testing.T) {
	for _, size := range []uint32{64, 1024} {
		var w Window
		w.Init(size)
		var wg sync.WaitGroup
		stop := make(chan struct{})
		wg.Go(func() {
			for last := uint64(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				l := w.Last()
				if l < last {
					t.Errorf("Last went from %d to %d", last, l)
					return
				}
				last = l
				w.Bitmap()
				w.MaxDiff()
			}
		})
		for s := uint64(1); s < 20000; s += 1 + s%3 {
			w.Update(s)
		}
		close(stop)
		wg.Wait()
	}
}

func TestAllocs(t *testing.T) {
	for _, size := range []uint32{0, 64, 4096} {
		var w Window
		w.Init(size)
		seq := uint64(0)
		if n := testing.AllocsPerRun(100, func() { seq += 3; w.Check(seq); w.Update(seq); w.Bitmap() }); n != 0 {
			t.Errorf("a window of %d allocates %v times a packet, want 0", size, n)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, size := range []uint32{64, 4096} {
		b.Run("", func(b *testing.B) {
			var w Window
			w.Init(size)
			for seq := uint64(1); b.Loop(); seq++ {
				w.Check(seq)
				w.Update(seq)
			}
		})
	}
}

// TestResume: numbers that count as received are refused, higher ones are not, and no
// number counts as skipped.
func TestResume(t *testing.T) {
	for _, size := range []uint32{0, 1, 8, 32, 64, 65, 1000, MaxSize} {
		for _, last := range []uint64{0, 1, 5, 63, 64, 65, 5000, 1<<32 - 1, 1 << 32, 7<<32 + 9, 1<<64 - 2} {
			var w Window
			w.Init(size)
			w.Resume(last)
			if size == 0 {
				if !w.Check(1) || w.Last() != 0 {
					t.Errorf("no window refuses numbers after Resume(%d)", last)
				}
				continue
			}
			if w.Last() != last || w.MaxDiff() != 0 {
				t.Errorf("window %d: after Resume(%d) the last is %d, %d were skipped", size, last, w.Last(), w.MaxDiff())
			}
			for i := range min(last, 2*MaxSize) {
				if w.Check(last - i) {
					t.Fatalf("window %d: after Resume(%d) number %d is taken", size, last, last-i)
				}
			}
			if !w.Update(last+1) || w.Update(last) {
				t.Errorf("window %d: after Resume(%d) the next number is refused, or one before it taken", size, last)
			}
		}
	}
}
