package wipe

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"reflect"
	"testing"
	"unsafe"

	"golang.org/x/crypto/chacha20poly1305"
)

// All parts of every object with a key, or with data equivalent to a key, are
// overwritten.
func TestObjects(t *testing.T) {
	key := []byte("0123456789abcdefghijklmnopqrstuv")
	must := func(x any, err error) any {
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	block := must(aes.NewCipher(key)).(cipher.Block)
	triple := must(des.NewTripleDESCipher(key[:24])).(cipher.Block)
	iv := make([]byte, 16)
	for _, tt := range []struct {
		name  string
		x     any
		parts int
	}{
		{"AES", block, 1},
		{"AES-GCM", must(cipher.NewGCM(block)), 1},
		{"AES-CBC", cipher.NewCBCEncrypter(block, iv), 1},
		{"AES-CBC, inbound", cipher.NewCBCDecrypter(block, iv), 1},
		{"3DES-CBC", cipher.NewCBCEncrypter(triple, iv[:8]), 3}, // the cipher and two blocks
		{"ChaCha20-Poly1305", must(chacha20poly1305.New(key)), 1},
		{"HMAC-MD5", hmac.New(md5.New, key), 4}, // two pads, two hashes
		{"HMAC-SHA-1", hmac.New(sha1.New, key), 4},
		{"HMAC-SHA-256", hmac.New(sha256.New, key), 4},
		{"HMAC-SHA-384", hmac.New(sha512.New384, key), 4},
		{"HMAC-SHA-512", hmac.New(sha512.New, key), 4},
	} {
		var p Parts
		if n := p.WhenGone(tt.x); n != tt.parts {
			t.Errorf("%s: %d parts of %T, want %d", tt.name, n, tt.x, tt.parts)
		}
		if h, ok := tt.x.(hash.Hash); ok { // it saves its keyed states in new pads
			h.Reset()
			h.Sum(nil)
			h.Reset()
			if n := p.WhenGone(tt.x); n != 2 {
				t.Errorf("%s: %d new parts after the first use, want 2", tt.name, n)
			}
		}
		if n := p.WhenGone(tt.x); n != 0 {
			t.Errorf("%s: %d parts are seen again", tt.name, n)
		}
	}
}

// An object is overwritten completely, and nothing else is.
func TestOverwrite(t *testing.T) {
	type object struct {
		key  [33]byte
		more uint16
	}
	l := []object{{more: 1}, {more: 2}, {more: 3}}
	for i := range l {
		copy(l[i].key[:], bytes.Repeat([]byte{7}, 33))
	}
	overwrite(&l[1])
	for i, zero := range []bool{false, true, false} {
		b := unsafe.Slice((*byte)(unsafe.Pointer(&l[i])), unsafe.Sizeof(l[i]))
		if (bytes.Count(b, []byte{0}) == len(b)) != zero || (l[i].more == 0) != zero {
			t.Errorf("object %d is % x", i, b)
		}
	}
}

// A value without memory of its own has no parts.
func TestNothing(t *testing.T) {
	var none *[4]byte
	for _, x := range []any{nil, none, 7, "text", &struct{ s []byte }{}, &struct{ f func() }{}, [4]byte{}, new(any), new(map[int]int), new(struct{})} {
		if n := new(Parts).WhenGone(x); n != 0 {
			t.Errorf("%d parts of %v", n, reflect.TypeOf(x))
		}
	}
}

// An overwritten hash keeps nothing of its message.
func TestNow(t *testing.T) {
	secret := []byte("a secret of less than one block")
	h := sha256.New()
	h.Write(secret)
	v := reflect.ValueOf(h)
	b := unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size())
	if !bytes.Contains(b, secret) {
		t.Fatal("a hash has no copy of its message; the test shows nothing")
	}
	Now(h)
	if bytes.Count(b, []byte{0}) != len(b) {
		t.Errorf("the hash is % x", b)
	}
}

// After Reserve a stack does not move in Stack. A stack that has moved has left its bytes
// behind.
func TestReserve(t *testing.T) {
	// moves reports whether the stack of a new goroutine, which is small, moves in Stack.
	moves := func(before func()) bool {
		result := make(chan bool)
		go func() {
			before()
			var local byte
			at := address(&local)
			Stack()
			result <- at != address(&local)
		}()
		return <-result
	}
	if moves(Reserve) {
		t.Error("the stack moves after Reserve")
	}
	// Go may start goroutines with larger stacks, so this is no fault.
	t.Logf("without Reserve it moves: %v", moves(func() {}))
}

//go:noinline
func address(p *byte) uintptr { return uintptr(unsafe.Pointer(p)) }
