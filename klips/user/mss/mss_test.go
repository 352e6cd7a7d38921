package mss

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// segment makes a TCP segment with options and a good checksum, leaving out the pseudo
// header.
func segment(flags byte, options ...byte) []byte {
	for len(options)%4 != 0 {
		options = append(options, optionEnd)
	}
	p := append(make([]byte, HeaderLen), options...)
	p = append(p, "data"...)
	p[0], p[3], p[12], p[flagsAt] = 0x12, 80, byte(HeaderLen+len(options))<<2, flags
	binary.BigEndian.PutUint16(p[checksumAt:], ^packet.Fold(packet.Sum(p, 0)))
	return p
}

func TestClamp(t *testing.T) {
	for _, c := range []struct {
		name string
		p    []byte
		at   int // where the value is; 0: nothing is changed
	}{
		{"SYN", segment(flagSYN, 2, 4, 5, 180), 22},
		{"SYN and ACK, others around", segment(0x12, 1, 1, 4, 2, 2, 4, 5, 180, 3, 3, 7), 26},
		{"at an odd place", segment(flagSYN, 1, 2, 4, 5, 180, 4, 2), 23},
		{"no SYN", segment(0x10, 2, 4, 5, 180), 0},
		{"small already", segment(flagSYN, 2, 4, 4, 176), 0},
		{"none", segment(flagSYN), 0},
		{"behind the end", segment(flagSYN, 1, 0, 2, 4, 5, 180), 0},
		{"cut short", segment(flagSYN, 1, 1, 2, 4), 0},
		{"of no length", segment(flagSYN, 9, 0, 2, 4, 5, 180), 0},
		{"of another length", segment(flagSYN, 2, 3, 5), 0},
		{"longer than the segment", segment(flagSYN, 2, 4, 5, 180)[:21], 0},
		{"no whole header", segment(flagSYN)[:19], 0},
	} {
		p := bytes.Clone(c.p)
		want := bytes.Clone(p)
		if c.at > 0 {
			binary.BigEndian.PutUint16(want[c.at:], 1200)
			want[checksumAt], want[checksumAt+1] = 0, 0
			binary.BigEndian.PutUint16(want[checksumAt:], ^packet.Fold(packet.Sum(want, 0)))
		}
		if changed := Clamp(p, 1200); changed != (c.at > 0) || !bytes.Equal(p, want) {
			t.Errorf("%s: Clamp = %v, made %x, want %x", c.name, changed, p, want)
		}
	}
	if Clamp(segment(flagSYN, 2, 4, 5, 180), -1) {
		t.Error("no segment has less than 0 bytes")
	}
}

// FuzzClamp: whatever the segment, its sum stays, and no MSS is larger than before.
func FuzzClamp(f *testing.F) {
	f.Add(segment(flagSYN, 1, 2, 4, 5, 180, 4, 2), uint16(1200))
	f.Fuzz(func(t *testing.T, p []byte, most uint16) {
		before := bytes.Clone(p)
		if !Clamp(p, int(most)) {
			if !bytes.Equal(p, before) {
				t.Errorf("%x became %x", before, p)
			}
			return
		}
		if a, b := packet.Fold(packet.Sum(before, 0)), packet.Fold(packet.Sum(p, 0)); a != b && a%0xffff != b%0xffff {
			t.Errorf("%x with the sum %#x became %x with %#x", before, a, p, b)
		}
	})
}
