package aescbc

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"strconv"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips/internal/wipe"
)

// both runs a test with the processor's AES instructions, where it has them, and without.
func both(t *testing.T, f func(t *testing.T)) {
	if Parallel() {
		t.Run("parallel", f)
	}
	t.Run("serial", func(t *testing.T) {
		Off = true
		defer func() { Off = false }()
		f(t)
	})
}

func TestVectors(t *testing.T) {
	both(t, func(t *testing.T) {
		for _, v := range Vectors() {
			if err := v.Check(); err != nil {
				t.Errorf("%s: %v", v.Source, err)
			}
			for name, change := range map[string]func(w *Vector){
				"key":        func(w *Vector) { w.Key = "ff" + w.Key[2:] },
				"length":     func(w *Vector) { w.Key += "ff" },
				"IV":         func(w *Vector) { w.IV = "ff" + w.IV[2:] },
				"plaintext":  func(w *Vector) { w.Plain = "ff" + w.Plain[2:] },
				"ciphertext": func(w *Vector) { w.Cipher = w.Cipher[:len(w.Cipher)-2] + "ff" },
			} {
				w := v
				change(&w)
				if w.Check() == nil {
					t.Errorf("%s with another %s passes", v.Source, name)
				}
			}
		}
	})
}

func TestErrors(t *testing.T) {
	both(t, func(t *testing.T) {
		for _, n := range []int{0, 15, 17, 33} {
			_, err := NewEncrypter(make([]byte, n))
			_, also := NewDecrypter(make([]byte, n))
			if err == nil || also == nil {
				t.Errorf("a key of %d bytes is taken", n)
			}
		}
		c := newPair(t, make([]byte, 16))
		for _, n := range []int{0, 15, 31, 33} {
			for name, f := range map[string]func([]byte){
				"Encrypt": func(m []byte) { c.Encrypt([][]byte{m}) }, "Decrypt": c.Decrypt} {
				func() {
					defer func() {
						if recover() == nil {
							t.Errorf("%s takes %d bytes", name, n)
						}
					}()
					f(make([]byte, n))
				}()
			}
		}
	})
}

// A pair has both directions of one key.
type pair struct {
	*Encrypter
	*Decrypter
}

func newPair(t interface{ Fatal(...any) }, key []byte) pair {
	e, err := NewEncrypter(key)
	d, also := NewDecrypter(key)
	if err != nil || also != nil {
		t.Fatal(err, also)
	}
	return pair{e, d}
}

// reference encrypts a copy of m, which begins with the IV, by package cipher.
func reference(key, m []byte) []byte {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	out := bytes.Clone(m)
	cipher.NewCBCEncrypter(b, m[:BlockSize]).CryptBlocks(out[BlockSize:], out[BlockSize:])
	return out
}

// Messages of any number and length get the ciphertext that package cipher makes, at any
// address, and nothing beside them is written.
func TestRandom(t *testing.T) {
	both(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			key := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key")
			key = key[:rapid.SampledFrom([]int{16, 24, 32}).Draw(t, "length of the key")]
			lengths := rapid.SliceOfN(rapid.IntRange(0, 30), 0, 20).Draw(t, "blocks of each message")
			gap := rapid.IntRange(0, 17).Draw(t, "bytes between messages")
			fill := rapid.Byte().Draw(t, "first byte")
			memory := make([]byte, gap)
			for _, n := range lengths {
				memory = append(memory, make([]byte, BlockSize*(1+n)+gap)...)
			}
			for i := range memory {
				fill = fill*13 + 7
				memory[i] = fill ^ byte(i>>8)
			}
			want := bytes.Clone(memory)
			var messages [][]byte
			at := gap
			for _, n := range lengths {
				end := at + BlockSize*(1+n)
				messages = append(messages, memory[at:end:end])
				copy(want[at:], reference(key, want[at:end]))
				at = end + gap
			}
			plain := bytes.Clone(memory)
			c := newPair(t, key)
			c.Encrypt(messages)
			if !bytes.Equal(memory, want) {
				t.Fatal("another ciphertext than by package cipher, or bytes beside it have changed")
			}
			for _, m := range messages {
				c.Decrypt(m)
			}
			if !bytes.Equal(memory, plain) {
				t.Fatal("another plaintext than before, or bytes beside it have changed")
			}
		})
	})
}

func FuzzCrypt(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), bytes.Repeat([]byte("seventeen bytes.."), 40), uint8(3))
	f.Add([]byte("0123456789abcdef01234567"), make([]byte, 16), uint8(1))
	f.Add([]byte("0123456789abcdef0123456789abcdef"), make([]byte, 16*17), uint8(9))
	f.Fuzz(func(t *testing.T, key, data []byte, parts uint8) {
		if _, err := NewEncrypter(key); err != nil {
			t.Skip()
		}
		c := newPair(t, key)
		var messages, want [][]byte
		size := max(1, len(data)/BlockSize/(int(parts)+1)) * BlockSize
		for len(data) >= size {
			m := data[:size:size]
			messages, want, data = append(messages, m), append(want, reference(key, m)), data[size:]
		}
		plain := make([][]byte, len(messages))
		for i, m := range messages {
			plain[i] = bytes.Clone(m)
		}
		c.Encrypt(messages)
		for i, m := range messages {
			if !bytes.Equal(m, want[i]) {
				t.Fatalf("message %d: %x, want %x", i, m, want[i])
			}
			c.Decrypt(m)
			if !bytes.Equal(m, plain[i]) {
				t.Fatalf("message %d decrypted: %x, want %x", i, m, plain[i])
			}
		}
	})
}

// fenced returns n bytes with memory before and after them whose use ends the program, at
// the end of a page or at its beginning.
func fenced(t *testing.T, n int, atEnd bool) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	size := (n + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	for _, fence := range [][]byte{m[:page], m[page+size:]} {
		if err := syscall.Mprotect(fence, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	at := page
	if atEnd {
		at += size - n
	}
	return m[at : at+n : at+n]
}

// Nothing outside of a message is read.
func TestFences(t *testing.T) {
	both(t, func(t *testing.T) {
		key := []byte("0123456789abcdef")
		c := newPair(t, key)
		for _, atEnd := range []bool{false, true} {
			for blocks := range 18 {
				m := fenced(t, BlockSize*(1+blocks), atEnd)
				plain := bytes.Clone(m)
				c.Encrypt([][]byte{m})
				if !bytes.Equal(m, reference(key, plain)) {
					t.Errorf("%d blocks: another ciphertext than by package cipher", blocks)
				}
				c.Decrypt(m)
				if !bytes.Equal(m, plain) {
					t.Errorf("%d blocks: another plaintext than before", blocks)
				}
			}
		}
	})
}

// Package wipe knows the memory with the round keys.
func TestParts(t *testing.T) {
	both(t, func(t *testing.T) {
		c := newPair(t, make([]byte, 32))
		for name, x := range map[string]any{"encrypter": c.Encrypter, "decrypter": c.Decrypter} {
			if n := new(wipe.Parts).WhenGone(x); n != 1 {
				t.Errorf("%s: %d parts with keys, want 1", name, n)
			}
		}
		for _, own := range []*schedule{c.Encrypter.own, c.Decrypter.own} {
			if own == nil {
				continue
			}
			wipe.Now(own)
			if *own != (schedule{}) {
				t.Error("round keys are left")
			}
		}
	})
}

func TestAllocs(t *testing.T) {
	both(t, func(t *testing.T) {
		c := newPair(t, make([]byte, 16))
		m := [][]byte{make([]byte, 1424), make([]byte, 64), make([]byte, 720)}
		if n := testing.AllocsPerRun(100, func() { c.Encrypt(m); c.Decrypt(m[2]) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkEncrypt(b *testing.B) {
	for _, n := range []int{1, 8, 32} {
		for _, size := range []int{64, 1408} {
			b.Run(strconv.Itoa(n)+"x"+strconv.Itoa(size), func(b *testing.B) {
				c := newPair(b, make([]byte, 16))
				m := make([][]byte, n)
				for i := range m {
					m[i] = make([]byte, BlockSize+size)
				}
				for b.Loop() {
					c.Encrypt(m)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
			})
		}
	}
}

func BenchmarkDecrypt(b *testing.B) {
	for _, size := range []int{64, 1408, 1456} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			c := newPair(b, make([]byte, 16))
			m := make([]byte, BlockSize+size)
			for b.Loop() {
				c.Decrypt(m)
			}
		})
	}
}
