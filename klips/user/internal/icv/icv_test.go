package icv

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"hash"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/internal/wipe"
	"github.com/klips-go/ipsec/klips/user/internal/hashpair"
)

// both runs a test with the processor's instructions, where it has them, and without.
func both(t *testing.T, f func(t *testing.T)) {
	t.Run("instructions", f)
	t.Run("none", func(t *testing.T) {
		hashpair.Off = true
		defer func() { hashpair.Off = false }()
		f(t)
	})
}

func TestVectors(t *testing.T) { both(t, testVectors) }

func testVectors(t *testing.T) {
	for _, v := range Vectors() {
		if err := v.Check(); err != nil {
			t.Errorf("%s: %v", v.Source, err)
		}
		for name, change := range map[string]func(w *Vector){
			"algorithm": func(w *Vector) { w.Auth = alg.AuthNone },
			"key":       func(w *Vector) { w.Key = "ff" + w.Key[2:] },
			"data":      func(w *Vector) { w.Data += "x" },
			"HMAC":      func(w *Vector) { w.HMAC = "ff" + w.HMAC[2:] },
		} {
			w := v
			change(&w)
			if w.Check() == nil {
				t.Errorf("%s with another %s passes", v.Source, name)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	for _, a := range []alg.Auth{alg.AuthNone, 1, 8, 9, 251} {
		if _, err := New(a, nil); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("New(%d) = %v, want ErrAlgorithm", a, err)
		}
	}
	if _, err := New(alg.MD5, make([]byte, 15)); !errors.Is(err, ErrKey) {
		t.Errorf("New with a short key = %v, want ErrKey", err)
	}
}

// Any number of messages of any lengths have the ICVs that package hmac computes.
func TestRandom(t *testing.T) {
	both(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			a := rapid.SampledFrom([]alg.Auth{alg.MD5, alg.SHA1, alg.SHA256, alg.SHA256Trunc, alg.SHA384, alg.SHA512}).Draw(t, "algorithm")
			info, _ := a.Info()
			key := rapid.SliceOfN(rapid.Byte(), info.KeyBits[0]/8, info.KeyBits[0]/8).Draw(t, "key")
			m, err := New(a, key)
			if err != nil {
				t.Fatal(err)
			}
			ref := hmac.New(map[alg.Auth]func() hash.Hash{alg.MD5: md5.New, alg.SHA1: sha1.New, alg.SHA256: sha256.New,
				alg.SHA256Trunc: sha256.New, alg.SHA384: sha512.New384, alg.SHA512: sha512.New}[a], key)
			lengths := rapid.SliceOfN(rapid.IntRange(0, 300), 0, 7).Draw(t, "lengths")
			var l []Message
			for i, n := range lengths {
				// Bytes beyond the ICV and the data must stay as they are.
				b := bytes.Repeat([]byte{byte(i + 1)}, n+1+m.Size()+1)
				l = append(l, Message{Data: b[:n], High: uint32(n), ESN: rapid.Bool().Draw(t, "ESN"), ICV: b[n+1 : n+1+m.Size()]})
			}
			m.Sums(l)
			for i, x := range l {
				ref.Reset()
				ref.Write(bytes.Repeat([]byte{byte(i + 1)}, len(x.Data)))
				if x.ESN {
					ref.Write(binary.BigEndian.AppendUint32(nil, x.High))
				}
				if want := ref.Sum(nil)[:m.Size()]; !bytes.Equal(x.ICV, want) {
					t.Fatalf("message %d: ICV %x, want %x", i, x.ICV, want)
				}
				if all := x.Data[:cap(x.Data)]; all[len(x.Data)] != byte(i+1) || all[len(all)-1] != byte(i+1) {
					t.Fatalf("message %d: bytes beside the ICV have changed", i)
				}
				if !m.Equal(x) {
					t.Fatalf("message %d: Equal does not take the ICV of Sums", i)
				}
			}
		})
	})
}

// Package wipe knows the memory with keyed states, and it has no copy of the key.
func TestKeys(t *testing.T) {
	if !hashpair.Supported() {
		return // package wipe tests package hmac
	}
	for _, a := range []alg.Auth{alg.SHA1, alg.SHA256} {
		info, _ := a.Info()
		p := newPair(a, bytes.Repeat([]byte{0x5a}, info.KeyBits[0]/8))
		if p.lanes != [2]lane{} {
			t.Errorf("%d: a block with the key is left", a)
		}
		if n := new(wipe.Parts).WhenGone(p); n != 1 {
			t.Errorf("%d: %d parts with keys, want 1", a, n)
		}
	}
}

func TestAllocs(t *testing.T) { both(t, testAllocs) }

func testAllocs(t *testing.T) {
	for _, a := range []alg.Auth{alg.MD5, alg.SHA1, alg.SHA256,
		alg.SHA256Trunc, alg.SHA384, alg.SHA512} {
		info, _ := a.Info()
		m, err := New(a, make([]byte, info.KeyBits[0]/8))
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 1400)
		l := make([]Message, 3)
		for i := range l {
			l[i] = Message{Data: p, ESN: i > 0, ICV: make([]byte, m.Size())}
		}
		if n := testing.AllocsPerRun(100, func() { m.Sums(l); m.Equal(l[0]) }); n != 0 {
			t.Errorf("algorithm %d allocates %v times a packet, want 0", a, n)
		}
	}
}

func BenchmarkSums(b *testing.B) {
	for _, a := range []alg.Auth{alg.SHA1, alg.SHA256} {
		for _, n := range []int{1, 8} {
			for _, size := range []int{64, 1400} {
				b.Run(strconv.Itoa(int(a))+"/"+strconv.Itoa(n)+"x"+strconv.Itoa(size), func(b *testing.B) {
					info, _ := a.Info()
					m, err := New(a, make([]byte, info.KeyBits[0]/8))
					if err != nil {
						b.Fatal(err)
					}
					l := make([]Message, n)
					for i := range l {
						l[i] = Message{Data: make([]byte, size), ICV: make([]byte, m.Size())}
					}
					for b.Loop() {
						m.Sums(l)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
				})
			}
		}
	}
}

// An ICV that was computed ahead is taken for its message only, and once.
func TestAhead(t *testing.T) {
	both(t, func(t *testing.T) {
		for _, alg := range []alg.Auth{alg.SHA1, alg.SHA256, alg.SHA512} {
			info, _ := alg.Info()
			m, err := New(alg, make([]byte, info.KeyBits[0]/8))
			other, also := New(alg, append(make([]byte, info.KeyBits[0]/8-1), 1))
			if err != nil || also != nil {
				t.Fatal(err, also)
			}
			memory := bytes.Repeat([]byte{7, 1, 3}, 60)
			message := func(m *MAC, from, to int, high uint32) Message {
				x := Message{Data: memory[from:to], High: high, ESN: true, ICV: make([]byte, m.Size())}
				m.Sums([]Message{x})
				return x
			}
			first, next := message(m, 0, 20, 1), message(m, 3, 120, 1)
			for name, tt := range map[string]struct {
				m *MAC
				x Message
			}{
				"the message":        {m, next},
				"another address":    {m, message(m, 6, 123, 1)}, // and the same content
				"another length":     {m, message(m, 3, 119, 1)},
				"another number":     {m, message(m, 3, 120, 2)},
				"another key":        {other, message(other, 3, 120, 1)},
				"an empty message":   {m, message(m, 3, 3, 1)},
				"the message before": {m, first},
			} {
				var a Ahead
				if !m.EqualAhead(first, &a, next) {
					t.Fatalf("%d: the ICV of the first message is not taken", alg)
				}
				if (a != Ahead{}) != m.Foresees() {
					t.Fatalf("%d: an ICV is foreseen: %v", alg, a != Ahead{})
				}
				wrong := tt.x
				wrong.ICV = bytes.Clone(wrong.ICV)
				wrong.ICV[3] ^= 4
				kept := a
				if tt.m.EqualAhead(wrong, &kept, Message{}) {
					t.Errorf("%d, %s: a wrong ICV is taken", alg, name)
				}
				if !tt.m.EqualAhead(tt.x, &a, Message{}) {
					t.Errorf("%d, %s: the right ICV is not taken", alg, name)
				}
				if used := a == (Ahead{}); m.Foresees() && used != (name == "the message") {
					t.Errorf("%d, %s: the foreseen ICV is used: %v", alg, name, used)
				}
			}
		}
	})
}
