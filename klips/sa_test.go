package klips

import "testing"

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
