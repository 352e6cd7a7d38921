package hashpair

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"strconv"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// hashes are both functions, with the same from the standard library.
var hashes = []struct {
	name    string
	initial func() State
	add     func(a, b *State, p, q []byte) int
	size    int
	ref     func() hash.Hash
}{
	{"SHA-1", Initial1, SHA1, sha1.Size, sha1.New},
	{"SHA-256", Initial256, SHA256, sha256.Size, sha256.New},
}

// padded returns p with the padding of both hashes (FIPS 180-4 section 5.1.1).
func padded(p []byte) []byte {
	out := append(bytes.Clone(p), 0x80)
	for len(out)%BlockSize != BlockSize-8 {
		out = append(out, 0)
	}
	return binary.BigEndian.AppendUint64(out, uint64(len(p))*8)
}

func sum(s State, size int) []byte {
	var out []byte
	for _, w := range s {
		out = binary.BigEndian.AppendUint32(out, w)
	}
	return out[:size]
}

// Both messages of a pair, of any lengths and at any addresses, have the hashes that the
// standard library computes.
func TestRandom(t *testing.T) {
	if !Supported() {
		return // nothing calls the functions then
	}
	for _, h := range hashes {
		t.Run(h.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				var messages, rest [2][]byte
				states := [2]State{h.initial(), h.initial()}
				for i := range messages {
					n := rapid.IntRange(0, 400).Draw(t, "length")
					messages[i] = rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "message")
					shift := rapid.IntRange(0, 15).Draw(t, "address")
					rest[i] = append(make([]byte, shift), padded(messages[i])...)[shift:]
				}
				n := h.add(&states[0], &states[1], rest[0], rest[1])
				if want := min(len(rest[0]), len(rest[1])); n != want {
					t.Fatalf("%d bytes are added, want %d", n, want)
				}
				for i := range rest { // one of them is empty
					h.add(&states[i], &states[i], rest[i][n:], rest[i][n:])
				}
				for i, m := range messages {
					ref := h.ref()
					ref.Write(m)
					if got, want := sum(states[i], h.size), ref.Sum(nil); !bytes.Equal(got, want) {
						t.Errorf("message %d: %x, want %x", i, got, want)
					}
				}
				if h.size == sha1.Size && (states[0][5]|states[0][6]|states[0][7]) != 0 {
					t.Error("SHA-1 has changed words that it does not use")
				}
			})
		})
	}
}

// Nothing outside of the messages is read.
func TestFences(t *testing.T) {
	if !Supported() {
		return
	}
	page := syscall.Getpagesize()
	m, err := syscall.Mmap(-1, 0, 3*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(m)
	for _, fence := range [][]byte{m[:page], m[2*page:]} {
		if err := syscall.Mprotect(fence, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range hashes {
		a, b := h.initial(), h.initial()
		h.add(&a, &b, m[page:page+128], m[2*page-128:2*page])
		if a != b || a == h.initial() {
			t.Errorf("%s: states %x and %x of equal messages", h.name, a, b)
		}
		if n := h.add(&a, &b, nil, m[page:page+128]); n != 0 {
			t.Errorf("%s: %d bytes of nothing", h.name, n)
		}
	}
}

func BenchmarkSums(b *testing.B) {
	if !Supported() {
		return
	}
	for _, h := range hashes {
		for _, two := range []bool{false, true} {
			b.Run(h.name+"/two="+strconv.FormatBool(two), func(b *testing.B) {
				x, y := h.initial(), h.initial()
				p, q := make([]byte, 1408), make([]byte, 1408)
				if two {
					for b.Loop() {
						h.add(&x, &y, p, q)
					}
				} else {
					for b.Loop() {
						h.add(&x, &x, p, p)
					}
				}
			})
		}
	}
}
