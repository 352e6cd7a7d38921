package rawip

import (
	"testing"

	"golang.org/x/net/bpf"
)

func TestPortFilter(t *testing.T) {
	many := make([]uint16, maxPorts+1)
	full := make([]uint16, maxPorts)
	for i := range full {
		full[i] = uint16(1000 + i)
	}
	udp := func(port uint16) []byte { return []byte{0x11, 0x94, byte(port >> 8), byte(port), 0, 8, 0, 0} }
	ip := func(options int, u []byte) []byte {
		p := make([]byte, 20+options)
		p[0] = 0x40 | byte(len(p)/4)
		return append(p, u...)
	}
	for _, c := range []struct {
		name  string
		v6    bool
		ports []uint16
		p     []byte
		want  bool
	}{
		{"nothing asked for", false, nil, ip(0, udp(4500)), false},
		{"one port", false, []uint16{4500}, ip(0, udp(4500)), true},
		{"another port", false, []uint16{4500}, ip(0, udp(4501)), false},
		{"IP options", false, []uint16{500, 4500}, ip(8, udp(4500)), true},
		{"first of two", false, []uint16{500, 4500}, ip(0, udp(500)), true},
		{"last of many", false, full, ip(0, udp(1000+maxPorts-1)), true},
		{"none of many", false, full, ip(0, udp(999)), false},
		{"too many", false, many, ip(0, udp(7)), true},
		{"cut short", false, []uint16{4500}, ip(0, nil), false},
		{"IPv6", true, []uint16{4500}, udp(4500), true},
		{"IPv6, another port", true, []uint16{4500}, udp(500), false},
	} {
		vm, err := bpf.NewVM(portFilter(c.v6, c.ports))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		n, err := vm.Run(c.p)
		if err != nil || (n > 0) != c.want {
			t.Errorf("%s: the filter takes %d bytes, %v; want any: %v", c.name, n, err, c.want)
		}
	}
}
