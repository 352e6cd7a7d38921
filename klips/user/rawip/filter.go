package rawip

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/sockfilter"
)

// maxPorts is the maximum number of ports in a filter; with more, all UDP packets are
// received and the engine filters them.
const maxPorts = 64

// setFilter sets which packets a socket receives.
func setFilter(fd int, filter []bpf.Instruction) error {
	p, err := sockfilter.Program(filter)
	if err != nil {
		return err
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, p)
}

// How many bytes of a packet a filter accepts.
const all, none = 1 << 18, 0

// tooBigFilter accepts "fragmentation needed" of ICMP (RFC 792), or "packet too big" of
// ICMPv6 (RFC 4443 section 3.2).
func tooBigFilter(v6 bool) []bpf.Instruction {
	kind := []bpf.Instruction{
		bpf.LoadMemShift{Off: 0}, bpf.LoadIndirect{Off: 0, Size: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 3<<8 | 4, SkipTrue: 1},
	}
	if v6 {
		kind = []bpf.Instruction{bpf.LoadAbsolute{Off: 0, Size: 1}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 2, SkipTrue: 1}}
	}
	return append(kind, bpf.RetConstant{Val: none}, bpf.RetConstant{Val: all})
}

// portFilter returns a filter for destination ports. On an IPv4 raw socket it sees the
// IP header, on an IPv6 one it begins at the UDP header.
func portFilter(v6 bool, ports []uint16) []bpf.Instruction {
	switch {
	case len(ports) == 0:
		return []bpf.Instruction{bpf.RetConstant{Val: none}}
	case len(ports) > maxPorts:
		return []bpf.Instruction{bpf.RetConstant{Val: all}}
	}
	prog := []bpf.Instruction{bpf.LoadMemShift{Off: 0}, bpf.LoadIndirect{Off: 2, Size: 2}}
	if v6 {
		prog = []bpf.Instruction{bpf.LoadAbsolute{Off: 2, Size: 2}}
	}
	for i, p := range ports {
		// Jump over the remaining ports and the refusal.
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(p), SkipTrue: uint8(len(ports) - i)})
	}
	return append(prog, bpf.RetConstant{Val: none}, bpf.RetConstant{Val: all})
}
