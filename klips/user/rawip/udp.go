package rawip

import (
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/sockfilter"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// maxPorts is the maximum number of ports in a filter; with more, all UDP packets are
// received and the engine filters them.
const maxPorts = 64

// SetUDPPorts makes Recv also return UDP packets to these local ports. They are copies:
// a socket that is bound to such a port, such as a key daemon's, still gets its
// packets. If no socket is bound to a port, the receiver binds one, because the kernel
// would otherwise answer "port unreachable" to the peer; it is closed when the port is
// no longer wanted. Calls must not overlap.
func (r *Receiver) SetUDPPorts(ports []uint16) {
	for _, s := range r.socks {
		if s.proto == packet.ProtoUDP {
			// It can fail only for lack of memory; then the old filter stays.
			_ = setFilter(s.fd, portFilter(s.v6, ports))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, fd := range r.taken {
		if !slices.Contains(ports, k.port) {
			unix.Close(fd)
			delete(r.taken, k)
		}
	}
	for _, p := range ports {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			k := place{family, p}
			if _, ok := r.taken[k]; ok {
				continue
			}
			if fd, ok := r.offered[k]; ok {
				delete(r.offered, k)
				r.taken[k] = fd
			} else if fd, err := TakePort(family, p); err == nil {
				r.taken[k] = fd
			}
		}
	}
}

// Offer gives the receiver UDP sockets that another process has bound, to ports that this
// process may not bind. [Receiver.SetUDPPorts] uses them; the next Offer closes those
// that were not used. The receiver owns all descriptors, also of sockets that it cannot
// use.
func (r *Receiver) Offer(fds []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, fd := range r.offered {
		unix.Close(fd)
		delete(r.offered, k)
	}
	for _, fd := range fds {
		k := place{family: option(fd, unix.SO_DOMAIN)}
		port, ok := boundPort(fd)
		k.port = port
		_, twice := r.offered[k]
		if !ok || twice || port == 0 || option(fd, unix.SO_TYPE) != unix.SOCK_DGRAM || option(fd, unix.SO_PROTOCOL) != unix.IPPROTO_UDP {
			unix.Close(fd)
			continue
		}
		r.offered[k] = fd
	}
}

// A place is a UDP port of one address family.
type place struct {
	family int
	port   uint16
}

// TakePort binds a UDP socket that nobody reads to a port; family is AF_INET or AF_INET6.
// The caller closes it. EACCES: the port is below those for programs without rights;
// EADDRINUSE: another socket is bound to it.
func TakePort(family int, port uint16) (int, error) {
	fd, err := openUnread(family, unix.SOCK_DGRAM, 0)
	if err != nil {
		return -1, err
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		sa = &unix.SockaddrInet6{Port: int(port)}
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

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
