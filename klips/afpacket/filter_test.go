package afpacket

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// wanted is the obvious form of protected.
func wanted(p []byte, ports []uint16) bool {
	ofPorts := func(udp []byte) bool {
		if len(ports) > MaxPorts {
			return true
		}
		for _, at := range []int{0, 2} {
			if len(udp) < at+2 {
				return false
			}
			if slices.Contains(ports, binary.BigEndian.Uint16(udp[at:])) {
				return true
			}
		}
		return false
	}
	carried := []byte{unix.IPPROTO_ESP, unix.IPPROTO_AH, unix.IPPROTO_COMP, unix.IPPROTO_IPIP, unix.IPPROTO_IPV6}
	extensions := []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_DSTOPTS}
	switch {
	case len(p) > 9 && p[0]&0x20 == 0:
		switch header := int(p[0]&15) * 4; {
		case slices.Contains(carried, p[9]):
			return true
		case p[9] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(p[6:])&0x1fff != 0:
			return false
		case len(p) <= header:
			return len(ports) > MaxPorts
		default:
			return ofPorts(p[header:])
		}
	case len(p) > 6 && p[0]&0x20 != 0:
		switch {
		case slices.Contains(carried, p[6]):
			return true
		case slices.Contains(extensions, p[6]):
			return len(p) > 40 && (p[40] == unix.IPPROTO_UDP || slices.Contains(carried, p[40]) || slices.Contains(extensions, p[40]))
		case p[6] != unix.IPPROTO_UDP:
			return false
		case len(p) <= 40:
			return len(ports) > MaxPorts
		default:
			return ofPorts(p[40:])
		}
	}
	return false
}

// The filter accepts what its obvious form does, of random packets of all kinds.
func TestProtected(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	many := make([]uint16, MaxPorts+1)
	for i := range many {
		many[i] = uint16(1000 + i)
	}
	protos := []byte{0, 1, 4, 6, 17, 17, 17, 41, 43, 44, 50, 51, 58, 60, 108}
	some := []uint16{500, 4500, 1001, 7}
	for _, ports := range [][]uint16{nil, {4500}, some[:2], many[:MaxPorts], many} {
		vm, err := bpf.NewVM(protected(ports))
		if err != nil {
			t.Fatal(err)
		}
		accepted := 0
		for range 4000 {
			p := make([]byte, r.IntN(80))
			for i := range p {
				p[i] = byte(r.UintN(256))
			}
			if len(p) > 44 {
				p[0] = []byte{0x45, 0x46, 0x4f, 0x60}[r.IntN(4)]
				at := 9
				if p[0] == 0x60 {
					at = 6
				} else if r.IntN(3) > 0 {
					p[6], p[7] = 0x40, 0
				}
				p[at], p[40] = protos[r.IntN(len(protos))], protos[r.IntN(len(protos))]
				for _, at := range []int{20, 22, 24, 26, 42} {
					binary.BigEndian.PutUint16(p[at:], some[r.IntN(len(some))])
				}
				if r.IntN(3) == 0 {
					binary.BigEndian.PutUint16(p[40:], some[r.IntN(len(some))])
				}
			}
			n, err := vm.Run(p)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := n != 0, wanted(p, ports); got != want {
				t.Errorf("ports %v, packet %x: accepted %v, want %v", ports, p, got, want)
			}
			if n != 0 {
				accepted++
			}
		}
		if accepted == 0 {
			t.Errorf("ports %v: nothing was accepted", ports)
		}
	}
}
