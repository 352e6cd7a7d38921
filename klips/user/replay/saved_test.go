package replay

import (
	"math/rand/v2"
	"testing"
)

// A restored window makes the same decisions as the saved one.
func TestSaved(t *testing.T) {
	for _, size := range []uint32{0, 1, 31, 32, 63, 64, 65, 128, 1000, 4095, 4096} {
		r := rand.New(rand.NewPCG(1, uint64(size)))
		var a Window
		a.Init(size)
		for range 2000 {
			a.Update(a.Last() + uint64(r.IntN(200)) - min(a.Last(), 100))
		}
		var b Window
		if !b.Restore(a.Save()) {
			t.Fatalf("size %d: a window that was saved is refused", size)
		}
		if a.Size() != b.Size() || a.Last() != b.Last() || a.MaxDiff() != b.MaxDiff() || a.Bitmap() != b.Bitmap() {
			t.Errorf("size %d: %d, %d, %d, %x after Restore, want %d, %d, %d, %x", size,
				b.Size(), b.Last(), b.MaxDiff(), b.Bitmap(), a.Size(), a.Last(), a.MaxDiff(), a.Bitmap())
		}
		for range 10000 {
			seq := a.Last() + uint64(r.IntN(5000)) - min(a.Last(), 4800)
			if x, y := a.Update(seq), b.Update(seq); x != y {
				t.Fatalf("size %d: number %d is taken: %v by the first window, %v by the second", size, seq, x, y)
			}
		}
	}
}

func TestNotSaved(t *testing.T) {
	for _, s := range []Saved{
		{Size: MaxSize + 1, Words: make([]uint64, 128)},
		{Size: 32}, {Size: 32, Words: make([]uint64, 2)}, {Size: 128, Words: make([]uint64, 3)}, {Words: make([]uint64, 1)},
	} {
		var w Window
		if w.Restore(s) || w.Size() != 0 {
			t.Errorf("a window of %d packets and %d words is taken", s.Size, len(s.Words))
		}
	}
}
