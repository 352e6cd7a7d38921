package nlxfrm

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
)

// A Notice is a message of the kernel to the programs that listen.
type Notice struct {
	Expired *State    // a lifetime limit of this state has passed; nil: none
	Hard    bool      // it was a hard limit, and the state is gone
	Acquire *Selector // a packet needs a state; nil: none
	Moved   *Mapping  // packets of a state come from elsewhere; nil: none do
}

// A Mapping is where packets of a state in UDP come from, when that is not the source of the
// state. The kernel sends it again for each packet, or as often as the state says.
type Mapping struct {
	ID       ID
	Old, New netip.AddrPort
}

// A Listener receives the messages of the kernel about changes in the XFRM tables of a
// network namespace.
type Listener struct{ sock *netlink.Conn }

// Multicast groups (enum xfrm_nlgroups).
const (
	groupAcquire = 1
	groupExpire  = 2
	groupSA      = 3
	groupPolicy  = 4
	groupMapping = 8
)

// Message types that only listeners get.
const (
	msgAcquire = 0x17
	msgExpire  = 0x18
	msgMapping = 0x26
)

// Listen begins to listen in the network namespace of the calling thread. With acquire the
// kernel takes the program for a key daemon: packets that need a state then wait for it.
func Listen(acquire bool) (*Listener, error) {
	n, err := netlink.Dial(familyXFRM, &netlink.Config{MessageBufferSize: receiveSize})
	if err != nil {
		return nil, wrap("listen to XFRM", "", err)
	}
	groups := []uint32{groupExpire, groupSA, groupPolicy, groupMapping}
	if acquire {
		groups = append(groups, groupAcquire)
	}
	for _, g := range groups {
		if err := n.JoinGroup(g); err != nil {
			n.Close()
			return nil, wrap("listen to XFRM", "", err)
		}
	}
	return &Listener{n}, nil
}

// Close ends listening.
func (l *Listener) Close() error { return l.sock.Close() }

// Receive waits for the next messages. ENOBUFS: messages were lost because the socket was
// full.
func (l *Listener) Receive(ctx context.Context) ([]Notice, error) {
	stop := context.AfterFunc(ctx, func() { l.sock.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	messages, err := l.sock.Receive()
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	list := make([]Notice, len(messages))
	for i, m := range messages {
		list[i] = parseNotice(m)
		clear(m.Data) // messages about states have keys
	}
	return list, err
}

// parseNotice parses a message; a malformed one is the zero Notice.
func parseNotice(m netlink.Message) (n Notice) {
	switch uint16(m.Header.Type) {
	case msgExpire: // struct xfrm_user_expire: the state, and one byte
		if len(m.Data) > saInfoLen {
			s, err := parseState(m.Data[:saInfoLen])
			if err == nil {
				n.Expired, n.Hard = s, m.Data[saInfoLen] != 0
			}
		}
	case msgAcquire: // struct xfrm_user_acquire: an ID, an address, a selector
		const at = 24 + 16
		if len(m.Data) >= at+selectorLen {
			s := new(Selector)
			if s.get(m.Data[at:]) == nil {
				n.Acquire = s
			}
		}
	case msgMapping:
		n.Moved = parseMapping(m.Data)
	}
	return n
}

// parseMapping parses struct xfrm_user_mapping: an ID with its family, a reqid, the old and the
// new address, both ports. nil: it is malformed.
func parseMapping(b []byte) *Mapping {
	const size = 64
	if len(b) < size {
		return nil
	}
	family := native.Uint16(b[20:])
	if family != FamilyIPv4 && family != FamilyIPv6 {
		return nil
	}
	dst, old, now := getAddr(b, family), getAddr(b[28:], family), getAddr(b[44:], family)
	return &Mapping{
		ID:  ID{Dst: dst, SPI: be.Uint32(b[16:]), Proto: b[22]},
		Old: netip.AddrPortFrom(old, be.Uint16(b[60:])), New: netip.AddrPortFrom(now, be.Uint16(b[62:])),
	}
}
