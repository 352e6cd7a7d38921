package packet

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// sumByHand adds word after word (RFC 1071 section 1).
func sumByHand(p []byte) uint16 {
	var sum uint32
	for i := 0; i < len(p); i += 2 {
		w := uint32(p[i]) << 8
		if i+1 < len(p) {
			w |= uint32(p[i+1])
		}
		if sum += w; sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(sum)
}

// With and without wide instructions, a sum is that of single words, of every length, at
// every place, and of bytes that make the most carries.
func TestSumWide(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	memory := make([]byte, 70000)
	check := func(p []byte) {
		t.Helper()
		want := sumByHand(p)
		usual := wide
		for _, wide = range []int{0, usual} {
			if got := Fold(Sum(p, 0)); got != want && (got != 0xffff || want != 0) && (got != 0 || want != 0xffff) {
				t.Fatalf("the sum of %d bytes is %#x, want %#x (%d bytes at once)", len(p), got, want, wide)
			}
		}
		wide = usual
	}
	for _, fill := range []func() byte{func() byte { return 0xff }, func() byte { return 0 }, func() byte { return byte(rnd.Uint32()) }} {
		for i := range memory {
			memory[i] = fill()
		}
		for n := range 400 {
			check(memory[n%67:][:n])
		}
		for range 200 {
			check(memory[rnd.IntN(100):][:rnd.IntN(65536)])
		}
	}
}

// The sum of bytes that are not all 0 is never 0: it is 0xffff (RFC 1624 section 3).
func TestSumNotZero(t *testing.T) {
	p := make([]byte, 128)
	for i := range p {
		p[i] = 0xff
	}
	for n := 2; n <= len(p); n += 2 {
		if Fold(Sum(p[:n], 0)) != 0xffff {
			t.Errorf("the sum of %d bytes 0xff is 0", n)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1400} {
		p := make([]byte, n)
		usual := wide
		for _, wide = range []int{0, usual} {
			b.Run(fmt.Sprintf("%d bytes, %d at once", n, wide), func(b *testing.B) {
				for b.Loop() {
					Sum(p, 1)
				}
			})
		}
		wide = usual
	}
}
