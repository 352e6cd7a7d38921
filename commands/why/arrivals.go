package why

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/afpacket"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// arrivals are the newest protected packets that have arrived at this host, one for each SAID.
// The counters of a kernel have no packets: while somebody watches, a packet that has come
// since the counter was lower is most likely the one that it counts.
type arrivals struct {
	socket *afpacket.Socket
	ports  []uint16
	had    map[string]uint64 // what the counters were, see inbound

	mu     sync.Mutex
	newest map[klips.SAID]klips.Dropped
}

// maxArrivals is how many SAIDs are remembered: anybody can send packets with any SPI.
const maxArrivals = 1024

// listen begins to receive, until the context ends. nil: this process may not. The tables have
// the ports of ESP in UDP, and what the counters are now.
func listen(ctx context.Context, t *klips.Snapshot) *arrivals {
	s, err := afpacket.Open()
	if err != nil {
		return nil
	}
	a := &arrivals{socket: s, ports: afpacket.Ports(t.SAs, 4500), had: inbound(t), newest: map[klips.SAID]klips.Dropped{}}
	f := afpacket.Filter{Ports: a.ports}
	err = rtnl.With(func(ctx context.Context, c *rtnl.Conn) error {
		links, err := c.Links(ctx)
		for _, l := range links {
			if !slices.ContainsFunc(t.Devices, func(d klips.Device) bool { return d.Name == l.Name }) {
				f.Protected = append(f.Protected, l.Index)
			}
		}
		return err
	})
	if err == nil {
		err = s.SetFilter(f)
	}
	if err != nil {
		s.Close()
		return nil
	}
	go a.receive(ctx)
	return a
}

func (a *arrivals) receive(ctx context.Context) {
	defer a.socket.Close()
	buf := make([]byte, afpacket.MaxLength)
	for {
		p, err := a.socket.Receive(ctx, buf, time.Time{})
		if err != nil {
			return
		}
		if p.Out {
			continue
		}
		if d, ok := a.parse(p); ok {
			a.note(d)
		}
	}
}

// parse returns what is known about a packet that has arrived, if it is ESP or AH.
func (a *arrivals) parse(p afpacket.Packet) (d klips.Dropped, ok bool) {
	h, ok := packet.ParseIP(p.Data)
	if !ok {
		return d, false
	}
	d = klips.Dropped{Time: p.Time, Inbound: true, Src: h.Src, Dst: h.Dst, Proto: h.Proto, Length: h.Total}
	body := p.Data[h.Len:h.Total]
	switch h.Proto {
	case packet.ProtoUDP:
		if len(body) < 8 || !slices.Contains(a.ports, binary.BigEndian.Uint16(body[2:])) {
			return d, false
		}
		t := udpencap.TypeOf(body)
		if t == klips.NATTNone {
			return d, false
		}
		d.SrcPort, d.DstPort = binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])
		d.Proto, body = packet.ProtoESP, body[udpencap.Overhead(t):]
	case packet.ProtoAH:
		if len(body) < 4 {
			return d, false
		}
		body = body[4:]
	case packet.ProtoESP:
	default:
		return d, false
	}
	if h.FragOff != 0 || len(body) < 8 {
		return d, false
	}
	d.SPI, d.Sequence = klips.SPI(binary.BigEndian.Uint32(body)), binary.BigEndian.Uint32(body[4:])
	return d, true
}

func (a *arrivals) note(d klips.Dropped) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.newest) >= maxArrivals {
		clear(a.newest)
	}
	a.newest[named(&d)] = d
}

// inbound returns what the kernel has counted of inbound packets, by reason. A reason can have
// counters of outbound packets too.
func inbound(t *klips.Snapshot) map[string]uint64 {
	n := map[string]uint64{}
	for _, k := range t.KernelDrops {
		if strings.HasPrefix(k.Counter, "XfrmIn") {
			n[k.Reason] += k.Packets
		}
	}
	return n
}

// explain adds to a snapshot the packets that have arrived since a time, and that the kernel's
// counters have most likely counted since the call before.
func (a *arrivals) explain(t *klips.Snapshot, since time.Time) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	had, now := a.had, inbound(t)
	a.had = now
	for id, d := range a.newest {
		if d.Time.Before(since) {
			delete(a.newest, id)
		}
	}
	for reason, n := range now {
		if n == had[reason] {
			continue
		}
		if d, ok := a.likely(t, reason); ok {
			d.Reason = reason
			t.LastDrops = append(t.LastDrops, d)
		}
	}
}

// likely returns the newest packet that can have been dropped for a reason: one of no SA, or of
// an SA, and then rather of one that counts the reason.
func (a *arrivals) likely(t *klips.Snapshot, reason string) (best klips.Dropped, ok bool) {
	rank := func(id klips.SAID) int {
		i := slices.IndexFunc(t.SAs, func(sa klips.SA) bool { return sa.ID == id })
		switch {
		case (i < 0) != (reason == drop.NoSA.String()):
			return 0
		case i >= 0 && t.SAs[i].DropCounts()[reason] > 0:
			return 2
		}
		return 1
	}
	top := 0
	for id, d := range a.newest {
		r := rank(id)
		if r == 0 || r < top || r == top && !d.Time.After(best.Time) {
			continue
		}
		if top, best, ok = r, d, true; reason != drop.NoSA.String() {
			best.SA = id
		}
	}
	return best, ok
}
