package replay

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// at returns a window whose highest number is last.
func at(size uint32, last uint64) *Window {
	w := new(Window)
	w.Init(size)
	if last != 0 {
		w.Update(last)
	}
	return w
}

// TestEndOfNumbers: a guess beyond the last number is refused.
func TestEndOfNumbers(t *testing.T) {
	for _, size := range []uint32{1, 64, 65, 4096} {
		w := at(size, 1<<64-1)
		for _, low := range []uint32{0, 1, 4096, 1<<31 - 1, 1<<32 - 1 - size, 1<<32 - 1} {
			if n := w.Extend(low); w.Check(n) {
				t.Errorf("size %d: Check(Extend(%#x) = %#x) = true at the end of the numbers", size, low, n)
			}
		}
	}
}

// extendSlowly searches for the result of Extend: of the numbers that end in low, the
// first that is not before the window.
func extendSlowly(last, size uint64, low uint32) uint64 {
	// The numbers that end in low, in the turn before that of last, in that turn, and
	// in the next one.
	for turn := max(last>>32, 1) - 1; ; turn++ {
		n := turn<<32 | uint64(low)
		if n > last || last-n < size {
			return n
		}
	}
}

func TestExtendOracle(t *testing.T) {
	sizes := []uint32{1, 2, 31, 32, 63, 64, 65, 128, 1000, 4095, 4096}
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.SampledFrom(sizes).Draw(r, "size")
		w := at(size, 0)
		last := uint64(0)
		for range rapid.IntRange(1, 60).Draw(r, "packets") {
			// Simulate a sender: its numbers ascend, and packets are reordered or lost,
			// fewer than 2^32 - W in a row.
			var sent uint64
			switch rapid.IntRange(0, 6).Draw(r, "kind") {
			case 0:
				sent = last + rapid.Uint64Range(1, 1<<32-uint64(size)).Draw(r, "lost")
			case 1:
				sent = last + 1<<32 - uint64(size)
			case 2: // to the border of the low half
				sent = (last>>32+1)<<32 - 5 + rapid.Uint64Range(0, 10).Draw(r, "around")
				sent = min(max(sent, last+1), last+1<<32-uint64(size))
			case 3, 4:
				sent = last - min(last, rapid.Uint64Range(0, uint64(size)-1).Draw(r, "back"))
			default:
				sent = last + 1
			}
			// While the window reaches below number 1, there are no numbers before it.
			if last < uint64(size) && sent >= 1<<32 {
				sent = 1<<32 - 1
			}
			low := uint32(sent)
			got := w.Extend(low)
			if want := extendSlowly(last, uint64(size), low); got != want || got != sent {
				r.Fatalf("size %d, newest %#x: Extend(%#x) = %#x, want %#x, sent was %#x", size, last, low, got, want, sent)
			}
			// Any low half, including forged ones.
			forged := rapid.Uint32().Draw(r, "forged")
			if got, want := w.Extend(forged), extendSlowly(last, uint64(size), forged); got != want {
				r.Fatalf("size %d, newest %#x: Extend(%#x) = %#x, want %#x", size, last, forged, got, want)
			}
			if w.Last() != last {
				r.Fatalf("Extend changed the newest number from %#x to %#x", last, w.Last())
			}
			if w.Update(got) {
				last = max(last, sent)
			}
		}
	})
}

// TestCrossing receives every number around the border of the low half once, in a
// random order that the window allows, and then each a second time.
func TestCrossing(t *testing.T) {
	for _, size := range []uint32{32, 64, 128, 4096} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				base := rapid.SampledFrom([]uint64{1, 2, 1 << 20, 1<<32 - 1}).Draw(r, "turn")<<32 - 10
				numbers := make([]uint64, 20)
				for i := range numbers {
					numbers[i] = base + uint64(i)
				}
				w := at(size, base-1)
				for _, n := range rapid.Permutation(numbers).Draw(r, "order") {
					got := w.Extend(uint32(n))
					if got != n || !w.Check(n) || !w.Update(n) {
						r.Fatalf("newest %#x: Extend(%#x) = %#x, want %#x, accepted", w.Last(), uint32(n), got, n)
					}
					if got := w.Extend(uint32(n)); got != n || w.Check(n) || w.Update(n) {
						r.Fatalf("newest %#x: Extend(%#x) = %#x, want %#x, replayed", w.Last(), uint32(n), got, n)
					}
				}
			})
		})
	}
}

func TestExtendAllocs(t *testing.T) {
	w := at(4096, 1<<40)
	low := uint32(0)
	if n := testing.AllocsPerRun(100, func() { low++; w.Update(w.Extend(low)) }); n != 0 {
		t.Errorf("Extend allocates %v times, want 0", n)
	}
}
