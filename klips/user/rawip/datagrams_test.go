package rawip

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips/user/mmsg"
)

// espRun returns datagrams of ESP of one SA behind one another, each of size bytes, and a
// last one of fewer.
func espRun(nonIKE bool, seq uint32, size, count, last int, fill byte) (data []byte) {
	for i := range count {
		n := size
		if i == count-1 {
			n = last
		}
		p := bytes.Repeat([]byte{fill}, n)
		at := 0
		if nonIKE {
			clear(p[:8])
			at = 8
		}
		binary.BigEndian.PutUint32(p[at:], 0x1002)
		binary.BigEndian.PutUint32(p[at+4:], seq+uint32(i))
		data = append(data, p...)
	}
	return data
}

// The datagrams of a run are found again, whatever is in them.
func TestFirstLen(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		nonIKE := rapid.Bool().Draw(r, "non-IKE")
		least := 9
		if nonIKE {
			least = 17
		}
		size := rapid.IntRange(least, 1480).Draw(r, "size")
		count := rapid.IntRange(1, 44).Draw(r, "count")
		last := rapid.IntRange(least, size).Draw(r, "last")
		seq := rapid.SampledFrom([]uint32{1, 77, 0xfffffffe}).Draw(r, "number")
		data := espRun(nonIKE, seq, size, count, last, rapid.Byte().Draw(r, "fill"))
		want := size
		if count == 1 {
			want = last
		}
		if got := firstLen(data); got != want {
			t.Fatalf("%d datagrams of %d bytes, the last of %d: the first has %d", count, size, last, got)
		}
	})
}

// What is no run stays whole: another program's datagram, a packet that has in its data
// what could begin the next one, and one with a byte left over.
func TestFirstLenWhole(t *testing.T) {
	inside := espRun(false, 7, 100, 1, 100, 'x')
	copy(inside[40:], []byte{0, 0, 0x10, 2, 0, 0, 0, 8})
	for name, data := range map[string][]byte{
		"nothing":             {},
		"keepalive":           {0xff},
		"IKE":                 append(make([]byte, 4), bytes.Repeat([]byte("ike"), 100)...),
		"zeros":               make([]byte, 100),
		"the next one inside": inside,
		"a byte too many":     append(espRun(false, 7, 100, 3, 100, 'x'), 1),
		"another number":      slices.Concat(espRun(false, 7, 100, 2, 100, 'x'), espRun(false, 10, 100, 1, 100, 'x')),
	} {
		if got := firstLen(data); got != len(data) {
			t.Errorf("%s: the first datagram of %d bytes has %d", name, len(data), got)
		}
	}
}

func FuzzDatagrams(f *testing.F) {
	f.Add(espRun(false, 7, 100, 3, 50, 'x'), false)
	f.Add(append([]byte{0x46, 0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1, 1, 1, 2, 2, 0, 9, 0, 0}, 5), false)
	f.Add([]byte{1, 1, 2, 2, 0, 9, 0, 0, 5}, true)
	f.Fuzz(func(t *testing.T, p []byte, v6 bool) {
		if n := firstLen(p); n > len(p) || n == 0 && len(p) > 0 {
			t.Errorf("the first of %d bytes has %d", len(p), n)
		}
		d := newDatagrams()
		d.from.v6 = v6
		data := d.openRaw(p, netip.IPv6Loopback(), &mmsg.Info{Dst: netip.IPv6Loopback()})
		if len(data) > len(p) || data != nil && len(d.headers) > len(d.head) {
			t.Errorf("%d bytes with %d of headers are from %d", len(data), len(d.headers), len(p))
		}
	})
}
