package keyuse

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

func id(spi klips.SPI) klips.SAID {
	return klips.SAID{Proto: klips.ProtoESP, SPI: spi, Dst: netip.MustParseAddr("192.0.2.1")}
}

func TestTag(t *testing.T) {
	x := New()
	key := bytes.Repeat([]byte{7}, 36)
	salted := append(bytes.Clone(key[:35]), 8)
	gcm := x.Tag(alg.AESGCM, key)
	for _, tt := range []struct {
		name string
		tag  Tag
		same bool
	}{
		{"the same", x.Tag(alg.AESGCM, bytes.Clone(key)), true},
		{"another salt", x.Tag(alg.AESGCM, salted), false},
		{"another length", x.Tag(alg.AESGCM, key[:28]), false},
		{"another cipher", x.Tag(alg.ChaCha20Poly1305, key), false},
		{"another index", New().Tag(alg.AESGCM, key), false},
	} {
		if got := tt.tag == gcm; got != tt.same {
			t.Errorf("%s: the tag is the same: %v, want %v", tt.name, got, tt.same)
		}
	}
	for _, enc := range []alg.Enc{alg.EncNone, alg.Null, alg.TripleDES, alg.AES, 252} {
		if tag := x.Tag(enc, key); tag != (Tag{}) {
			t.Errorf("cipher %d has a tag", enc)
		}
	}
}

func TestIndex(t *testing.T) {
	x := New()
	a, b := Tag{1}, Tag{2}
	x.Add(a, id(1), klips.Inbound)
	for spi := klips.SPI(2); spi < 8; spi++ {
		x.Add(a, id(spi), klips.Outbound)
	}
	x.Add(b, id(9), klips.Inbound)
	x.Add(Tag{}, id(10), klips.Outbound)
	x.Add(Tag{}, id(11), klips.Outbound)

	sender := func(tag Tag, but, want klips.SPI) {
		t.Helper()
		got, ok := x.Sender(tag, id(but))
		if ok != (want != 0) || ok && got != id(want) {
			t.Errorf("Sender(%v, but %d) = %v, %v, want %d", tag[0], but, got, ok, want)
		}
	}
	sender(a, 0, 2)
	sender(a, 2, 3)
	sender(b, 0, 0)
	sender(Tag{}, 0, 0)
	if got, want := x.Others(a, id(2)), []klips.SAID{id(1), id(3), id(4), id(5)}; !slices.Equal(got, want) {
		t.Errorf("Others = %v, want %v", got, want)
	}
	if got := x.Others(b, id(9)); got != nil {
		t.Errorf("Others = %v, want none", got)
	}
	x.Remove(a, id(2))
	x.Remove(b, id(9))
	x.Remove(b, id(9))
	sender(a, 0, 3)
	if len(x.users) != 1 {
		t.Errorf("%d keys are left, want 1", len(x.users))
	}
	x.Clear()
	sender(a, 0, 0)
}
