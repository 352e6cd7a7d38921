package rtnl

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Truncated data is refused, and nothing is read beyond its end.
func TestParseRoute(t *testing.T) {
	attr := func(typ uint16, body ...byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(body)))
		return append(binary.NativeEndian.AppendUint16(b, typ), body...)
	}
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1], b[4], b[7] = unix.AF_INET, 24, unix.RT_TABLE_MAIN, unix.RTN_UNICAST
	b = append(b, attr(unix.RTA_DST, 10, 2, 0, 0)...)
	b = append(b, attr(unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, 3)...)...)
	hop := func(index byte) []byte {
		h := binary.NativeEndian.AppendUint16(nil, 8)
		return append(append(h, unix.RTNH_F_DEAD, 0), binary.NativeEndian.AppendUint32(nil, uint32(index))...)
	}
	b = append(b, attr(unix.RTA_MULTIPATH, append(hop(3), hop(4)...)...)...)
	r, err := parseRoute(b)
	if err != nil || r.place().String() != "10.2.0.0/24" || !cmp.Equal(r.Devices, []int{3, 3, 4}) {
		t.Errorf("parseRoute = %+v, %v", r, err)
	}
	if r, err := parseRoute(r.with(3, 9)); err != nil || !cmp.Equal(r.Devices, []int{9, 9, 4}) {
		t.Errorf("with another device: %+v, %v", r, err)
	}
	for name, b := range map[string][]byte{
		"another family":       append([]byte{unix.AF_MPLS}, b[1:unix.SizeofRtMsg]...),
		"too long a prefix":    append([]byte{unix.AF_INET, 33}, b[2:unix.SizeofRtMsg]...),
		"an address too big":   append(slices.Clone(b[:unix.SizeofRtMsg]), attr(unix.RTA_DST, 1, 2, 3, 4, 5)...),
		"of the other family":  append([]byte{unix.AF_INET6}, b[1:]...),
		"a gateway of no size": append(slices.Clone(b), 2, 0, 5, 0),
	} {
		if r, err := parseRoute(b); err == nil {
			t.Errorf("%s is taken for %+v", name, r)
		}
	}
	for n := range b {
		parseRoute(b[:n])
	}
}

func FuzzParseRoute(f *testing.F) {
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1], b[7] = unix.AF_INET6, 64, unix.RTN_UNICAST
	f.Add(b)
	f.Add(append(b, 16, 0, 9, 0, 8, 0, 0, 0, 3, 0, 0, 0))
	f.Add(append(b, 8, 0, 4, 0, 3, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRoute(b)
		if err != nil {
			return
		}
		if v4 := b[0] == unix.AF_INET; r.Dst.Addr().Is4() != v4 || !r.Dst.IsValid() {
			t.Errorf("%x is a route to %v", b, r.Dst)
		}
		from := 0
		if len(r.Devices) > 0 {
			from = r.Devices[0]
		}
		again, err := parseRoute(r.with(from, 7))
		if err != nil || len(again.Devices) != len(r.Devices) || len(again.Devices) > 0 && again.Devices[0] != 7 {
			t.Errorf("%x: %v became %v, %v", b, r.Devices, again.Devices, err)
		}
		h := Held{route: r}
		if u, err := parseRoute(h.unreachable()); r.Table != 0 && (err != nil || u.place() != r.place()) {
			t.Errorf("%x: the unreachable route of %v is that of %v, %v", b, r.place(), u.place(), err)
		}
	})
}
