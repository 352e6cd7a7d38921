package klips

import (
	"net/netip"
	"testing"
)

// The host has the addresses 192.0.2.1 and fe80::1.
func TestDirectionOf(t *testing.T) {
	local := func(a netip.Addr) bool { s := a.String(); return s == "192.0.2.1" || s == "fe80::1" }
	for _, c := range []struct {
		dst, src string
		want     Direction
	}{
		{"192.0.2.1", "192.0.2.2", Inbound},
		{"192.0.2.1", "0.0.0.0", Inbound},
		{"192.0.2.2", "192.0.2.1", Outbound},
		{"192.0.2.2", "0.0.0.0", Outbound},
		{"224.0.0.5", "0.0.0.0", Both},
		{"224.0.0.5", "192.0.2.1", Outbound},
		{"224.0.0.5", "192.0.2.2", Inbound},
		{"ff02::5", "::", Both},
		{"ff02::5", "fe80::1", Outbound},
		{"ff02::5", "fe80::2", Inbound},
		{"fe80::1", "::", Inbound},
		{"fe80::2", "::", Outbound},
	} {
		got := DirectionOf(netip.MustParseAddr(c.dst), netip.MustParseAddr(c.src), local)
		if got != c.want || got.Sends() != (c.want != Inbound) || got.Receives() != (c.want != Outbound) {
			t.Errorf("DirectionOf(%s, %s) = %v, sends %v, receives %v, want %v", c.dst, c.src, got, got.Sends(), got.Receives(), c.want)
		}
	}
	if got := DirectionOf(netip.MustParseAddr("ff02::5"), netip.Addr{}, local); got != Both {
		t.Errorf("DirectionOf(ff02::5, no source) = %v, want both", got)
	}
}

func TestCounterBelowZero(t *testing.T) {
	for raw, want := range map[uint64]Counter{
		0: {}, 5: {Count: 5}, 1<<63 - 1: {Count: 1<<63 - 1}, 1 << 63: {Below: 1 << 63}, 1<<64 - 1: {Below: 1}, 18446744073709551364: {Below: 252},
	} {
		c := Counter{Count: 9, Below: 9}
		if c.SetRaw(raw); c != want || c.Raw() != raw {
			t.Errorf("SetRaw(%d) = %+v, Raw %d, want %+v", raw, c, c.Raw(), want)
		}
	}
}
