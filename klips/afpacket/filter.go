package afpacket

import (
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// A Filter selects packets in the kernel. The zero Filter selects none.
type Filter struct {
	// Whole are indexes of devices whose IP packets are all received.
	Whole []int
	// Protected are indexes of devices of which these packets are received: ESP, AH,
	// IPComp, IP in IP, and UDP from or to one of Ports. Behind an extension header of IPv6
	// a filter finds no ports, and does not look behind a second one: all such UDP packets,
	// and all packets with two, are received.
	Protected []int
	// Ports are UDP ports in host order. More than [MaxPorts] stand for all ports.
	Ports []uint16
}

// Ports returns the UDP ports that carry ESP of SAs, and some more, in ascending order.
func Ports(sas []klips.SA, more ...uint16) []uint16 {
	ports := slices.Clone(more)
	for i := range sas {
		if n := sas[i].NATT.WithPorts(); n.Type != klips.NATTNone {
			ports = append(ports, n.SPort, n.DPort)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// MaxPorts is the maximum number of ports in a filter.
const MaxPorts = 64

// How many bytes of a packet a filter accepts.
const all, none = 1 << 20, 0

// program returns the filter for the kernel. It sees packets from their IP header on.
func (f *Filter) program() []bpf.Instruction {
	p := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IP, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 1},
		bpf.RetConstant{Val: none},
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
	}
	for _, d := range f.Whole {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(d), SkipTrue: 1}, bpf.RetConstant{Val: all})
	}
	for i, d := range f.Protected { // the long jump is over the devices after it, and the refusal
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(d), SkipTrue: 1}, bpf.Jump{Skip: uint32(2*(len(f.Protected)-1-i) + 1)})
	}
	p = append(p, bpf.RetConstant{Val: none})
	return append(p, protected(f.Ports)...)
}

// protected returns the part of a filter that accepts what [Filter] names for protected
// devices.
func protected(ports []uint16) []bpf.Instruction {
	v4 := append([]bpf.Instruction{bpf.LoadAbsolute{Off: 9, Size: 1}}, accept(unix.IPPROTO_ESP, unix.IPPROTO_AH, unix.IPPROTO_COMP, unix.IPPROTO_IPIP, unix.IPPROTO_IPV6)...)
	v4 = append(v4,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 1},
		bpf.RetConstant{Val: none},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: 0x1fff, SkipTrue: 1}, // the offset of a fragment: later ones have no ports
		bpf.RetConstant{Val: none},
		bpf.LoadMemShift{Off: 0},
	)
	v4 = append(v4, ofPorts(ports)...)
	v6 := append([]bpf.Instruction{bpf.LoadAbsolute{Off: 6, Size: 1}}, accept(unix.IPPROTO_ESP, unix.IPPROTO_AH, unix.IPPROTO_COMP, unix.IPPROTO_IPIP, unix.IPPROTO_IPV6)...)
	behind := append([]bpf.Instruction{bpf.LoadAbsolute{Off: 40, Size: 1}}, accept(unix.IPPROTO_ESP, unix.IPPROTO_AH, unix.IPPROTO_COMP, unix.IPPROTO_IPIP, unix.IPPROTO_IPV6,
		unix.IPPROTO_UDP, unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_DSTOPTS)...)
	behind = append(behind, bpf.RetConstant{Val: none})
	v6 = append(v6,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_HOPOPTS, SkipTrue: 5},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ROUTING, SkipTrue: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_FRAGMENT, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_DSTOPTS, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: uint8(len(behind) + 1)},
		bpf.RetConstant{Val: none},
	)
	v6 = append(v6, behind...)
	v6 = append(v6, bpf.LoadConstant{Dst: bpf.RegX, Val: 40})
	v6 = append(v6, ofPorts(ports)...)
	head := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x20, SkipFalse: 1}, // version 6, not 4
		bpf.Jump{Skip: uint32(len(v4))},
	}
	return slices.Concat(head, v4, v6)
}

// accept returns instructions that accept a packet if A is one of the values.
func accept(values ...uint32) (p []bpf.Instruction) {
	for i, v := range values {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
	}
	return append(p, bpf.Jump{Skip: 1}, bpf.RetConstant{Val: all})
}

// ofPorts returns instructions that accept UDP from or to a port, and no other packet. X is
// the offset of the UDP header.
func ofPorts(ports []uint16) []bpf.Instruction {
	if len(ports) > MaxPorts {
		return []bpf.Instruction{bpf.RetConstant{Val: all}}
	}
	values := make([]uint32, len(ports))
	for i, p := range ports {
		values[i] = uint32(p)
	}
	p := append([]bpf.Instruction{bpf.LoadIndirect{Off: 0, Size: 2}}, accept(values...)...)
	p = append(append(p, bpf.LoadIndirect{Off: 2, Size: 2}), accept(values...)...)
	return append(p, bpf.RetConstant{Val: none})
}
