package main

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// A wire counts the unprotected frames on a device. The kernel filters out ESP, AH, ARP
// and IPv6 housekeeping, so that no unprotected frame is missed, however many packets
// pass.
type wire struct {
	fd, wake int
	done     chan struct{}
	mu       sync.Mutex
	seen     map[string]int // by kind
	answers  int            // ICMP errors about ESP or AH: the daemon is dead
	sample   []byte         // the first counted frame since expect
}

// protected drops the frames that may be on the wire and keeps 128 bytes of all others.
var protected = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_ARP, SkipTrue: 11},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 5},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 8},
	bpf.LoadAbsolute{Off: 23, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ESP, SkipTrue: 7},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_AH, SkipTrue: 6},
	bpf.Jump{Skip: 4},
	bpf.LoadAbsolute{Off: 20, Size: 1}, // IPv6: the host's own messages, from the start of the device
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 3},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_HOPOPTS, SkipTrue: 2},
	bpf.Jump{Skip: 0},
	bpf.RetConstant{Val: 128},
	bpf.RetConstant{Val: 0},
}

func watch(h *lab.Host, dev string) (*wire, error) {
	w := &wire{done: make(chan struct{}), seen: map[string]int{}}
	raw, err := bpf.Assemble(protected)
	if err != nil {
		return nil, err
	}
	prog := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		prog[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	err = h.Do(func() error {
		ifi, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		err = unix.SetsockoptSockFprog(w.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
		if err == nil {
			err = unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index})
		}
		if err == nil {
			w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
		}
		if err != nil {
			unix.Close(w.fd)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: watch %s: %w", h.Name, dev, err)
	}
	go w.read()
	return w, nil
}

func (w *wire) read() {
	defer close(w.done)
	fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}, {Fd: int32(w.wake), Events: unix.POLLIN}}
	buf := make([]byte, 256)
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		for {
			n, _, err := unix.Recvfrom(w.fd, buf, 0)
			if err != nil {
				break
			}
			w.mu.Lock()
			if unreachable(buf[:n]) {
				w.answers++
				w.mu.Unlock()
				continue
			}
			w.seen[kind(buf[:n])]++
			if w.sample == nil {
				w.sample = slices.Clone(buf[:n])
			}
			w.mu.Unlock()
		}
		if fds[1].Revents != 0 {
			return
		}
	}
}

// unreachable reports whether a frame is the kernel's answer to a protected packet that
// no socket receives. Such an answer quotes only that packet (RFC 792, RFC 1122 section
// 3.2.2.1).
func unreachable(f []byte) bool {
	const icmp, quoted = 14 + 20, 14 + 20 + 8
	if len(f) < quoted+20 || kind(f) != "ICMP" || f[14] != 0x45 || f[icmp] != 3 || f[icmp+1] != 2 {
		return false
	}
	p := f[quoted+9]
	return p == unix.IPPROTO_ESP || p == unix.IPPROTO_AH
}

// kind returns the name of a frame's kind.
func kind(frame []byte) string {
	if len(frame) < 24 {
		return "short frame"
	}
	if binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP {
		return fmt.Sprintf("ethertype 0x%x", frame[12:14])
	}
	switch frame[23] {
	case unix.IPPROTO_ICMP:
		return "ICMP"
	case unix.IPPROTO_IPIP:
		return "IP in IP"
	case unix.IPPROTO_TCP:
		return "TCP"
	case unix.IPPROTO_UDP:
		return "UDP"
	case unix.IPPROTO_COMP:
		return "IPComp"
	}
	return fmt.Sprintf("IP protocol %d", frame[23])
}

// expect waits until n frames of a kind and no others were seen, and resets the counts.
func (w *wire) expect(kind string, n int) error {
	var seen map[string]int
	if err := lab.Await(func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		seen = maps.Clone(w.seen)
		if len(seen) != 1 || seen[kind] != n {
			return false
		}
		w.seen, w.sample = map[string]int{}, nil
		return true
	}); err != nil {
		return fmt.Errorf("the watch on the wire saw %v, want %d of %s: %w", seen, n, kind, err)
	}
	return nil
}

func (w *wire) judge(r *report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var text []string
	for _, k := range slices.Sorted(maps.Keys(w.seen)) {
		text = append(text, fmt.Sprintf("%d %s", w.seen[k], k))
	}
	if text == nil {
		r.say("wire: nothing unprotected (%d answers that nobody takes ESP or AH)", w.answers)
		return
	}
	r.say("wire: unprotected: %s", strings.Join(text, ", "))
	r.bad("unprotected packets: %s; the first: %x", strings.Join(text, ", "), w.sample)
}

func (w *wire) close() {
	unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-w.done
	unix.Close(w.fd)
	unix.Close(w.wake)
}
