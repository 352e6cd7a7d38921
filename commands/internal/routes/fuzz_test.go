package routes

import (
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzParse reads messages about routes. What is read is a route of a device,
// to a network of one family.
func FuzzParse(f *testing.F) {
	head := func(family, bits byte) []byte {
		return []byte{family, bits, 0, 0, unix.RT_TABLE_MAIN, 3, 0, unix.RTN_UNICAST, 0, 0, 0, 0}
	}
	f.Add(append(head(unix.AF_INET, 24), 8, 0, 1, 0, 10, 1, 2, 0, 8, 0, 4, 0, 2, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 1, 8, 0, 7, 0, 192, 0, 2, 2, 8, 0, 6, 0, 100, 0, 0, 0))
	f.Add(append(head(unix.AF_INET6, 64), 20, 0, 1, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 4, 0, 2, 0, 0, 0))
	f.Add(head(unix.AF_INET, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := parse(b, unix.RTN_UNICAST, map[uint32]string{2: "eth0"})
		if !ok {
			return
		}
		if !r.Dst.IsValid() || r.Device != "" && r.Device != "eth0" || len(r.raw) != len(b) {
			t.Fatalf("parse(%x) = %+v", b, r)
		}
		if v4 := b[0] == unix.AF_INET; r.Dst.Addr().Is4() != v4 {
			t.Fatalf("parse(%x) = %+v, of another family", b, r)
		}
	})
}
