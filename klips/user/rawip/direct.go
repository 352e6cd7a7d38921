package rawip

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/nexthop"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A direct sends ESP and AH by a packet socket (packet(7)): past the kernel's IP output,
// its packet filter and the queueing discipline of the device, which take most of the time
// that a raw socket needs. It keeps to what the kernel knows of the next hop.
//
// An AF_XDP socket would pass by the reception, too: 1.22 to 1.27 times as fast between two veth
// devices. It is left out: the daemon would need bpf(2), which it gives up with its other rights
// (package confine), and a program on a device changes the device for all other traffic.
type direct struct {
	fd    int
	hops  *nexthop.Table
	now   func() int64 // nanoseconds that never go back
	turns atomic.Uint64

	full atomic.Int64 // the time until which nothing is sent directly
}

// A turn is one Send with a direct.
type turn struct {
	*direct
	number uint64 // not 0
	time   int64
	dst    netip.Addr   // of the last packet
	hop    *nexthop.Hop // for dst; nil: the raw socket
}

// confirmEvery is the time after which a batch for a hop goes by the raw socket. The kernel
// checks whether a neighbour is still there only if it sends to it itself (RFC 4861 section
// 7.3.3); if not, it reports that and the hop is not used any more. So packets of a slow
// flow never go directly.
const confirmEvery = time.Second

// When the device is full, a Send waits for it, pause by pause. A device that takes nothing
// for so many pauses, as one without a carrier, gets packets by the raw socket for the time
// of confirmEvery: that puts them into a queue, which packets must not overtake.
const (
	pause     = 50 * time.Microsecond
	maxPauses = 200
)

// Direct makes Send send the packets of ESP and AH that an SA has made past the kernel's IP
// output, if the next hop is in hops and can be sent to. ESP in UDP and all other packets go
// as before. now returns nanoseconds that never go back. It must not be called while a Send
// is in progress. hops stays the caller's, and must be closed after the Sender. EAFNOSUPPORT:
// the kernel has no packet sockets.
func (s *Sender) Direct(hops *nexthop.Table, now func() int64) error {
	// Protocol 0: the socket receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		unix.Close(fd)
		return err
	}
	setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	s.direct = &direct{fd: fd, hops: hops, now: now}
	return nil
}

// begin begins a Send. d may be nil.
func (d *direct) begin() turn {
	if d == nil {
		return turn{}
	}
	return turn{direct: d, number: d.turns.Add(1), time: d.now()}
}

// of returns the hop that a packet can be sent to directly; nil: it goes by a raw socket.
func (t *turn) of(b *packet.Buffer) *nexthop.Hop {
	p := b.Bytes()
	if !b.Sealed || t.time < t.full.Load() || !isIPsec(p) {
		return nil
	}
	if dst := packet.Dst(p); dst != t.dst {
		t.dst, t.hop = dst, t.find(dst)
	}
	return t.hop
}

// find returns the hop of a destination unless this is its turn to be confirmed.
func (t *turn) find(dst netip.Addr) *nexthop.Hop {
	h := t.hops.Find(dst)
	if h == nil {
		return nil
	}
	// Of Sends at the same time, one confirms. None does at first (0): a raw socket has just
	// sent to the hop.
	if due := h.Due.Load(); t.time >= due && h.Due.CompareAndSwap(due, t.time+int64(confirmEvery)) && due != 0 {
		h.Turn.Store(t.number)
	}
	if h.Turn.Load() == t.number {
		return nil
	}
	return h
}

// isIPsec reports whether p is a packet of ESP or AH without other headers before, or a
// fragment of one.
func isIPsec(p []byte) bool {
	var proto uint8
	switch {
	case len(p) >= ipv4Len && p[0]>>4 == 4:
		proto = p[9]
	case len(p) >= ipv6Len && p[0]>>4 == 6:
		proto = p[6]
		if proto == packet.ProtoFragment && len(p) > ipv6Len {
			proto = p[ipv6Len]
		}
	}
	return proto == packet.ProtoESP || proto == packet.ProtoAH
}

// sendPlain sends packets that are not sent as a run: directly or by the raw sockets.
func (s *sending) sendPlain(pkts []*packet.Buffer, fail func(b *packet.Buffer, err error)) {
	d := &s.turn
	for d.direct != nil && len(pkts) > 0 {
		n := 0
		for n < len(pkts) && d.of(pkts[n]) == nil {
			n++
		}
		s.sendRaw(pkts[:n], fail)
		pkts = pkts[n:]
		for n = 0; n < len(pkts) && n < s.batch.Len(); n++ {
			h := d.of(pkts[n])
			if h == nil {
				break
			}
			p := pkts[n].Bytes()
			packet.FixChecksum(p) // the raw socket does it, too
			s.batch.SetSendLink(n, p, s.index, h.LinkAddr)
		}
		sent := s.sendDirect(n)
		if sent < n && d.time >= d.full.Load() {
			// The raw socket knows what is wrong with this one.
			s.sendRaw(pkts[sent:sent+1], fail)
			sent++
		}
		pkts = pkts[sent:]
	}
	s.sendRaw(pkts, fail)
}

// sendDirect sends the first n packets of the batch, and returns how many were sent. The
// next one has an error, or the device is full.
func (s *sending) sendDirect(n int) (sent int) {
	d := &s.turn
	for pauses := 0; sent < n; {
		done, err := s.batch.Send(d.fd, sent, n, s.full)
		sent += done
		switch {
		case err == nil:
			pauses = 0
		case !errors.Is(err, unix.ENOBUFS):
			return sent
		case pauses == maxPauses:
			d.full.Store(d.time + int64(confirmEvery))
			return sent
		default:
			if pauses == 0 && s.full != nil {
				s.full()
			}
			pauses++
			time.Sleep(pause)
		}
	}
	return sent
}

// close closes the socket. d may be nil.
func (d *direct) close() {
	if d != nil && d.fd >= 0 {
		unix.Close(d.fd)
		d.fd = -1
	}
}
