package engine

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/ipip"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// Values of the knob natt_keepalive, in seconds: RFC 3948 section 4 has 20.
const (
	usualKeepalive = 20
	maxKeepalive   = 3600
)

// keepaliveGap is the shortest time between two calls of keepAlive.
const keepaliveGap = time.Second

// keepalives keep the mappings of NATs between this host and its peers alive. A packet
// with one octet 0xff (RFC 3948 section 2.3) is sent if nothing else has been sent for
// some time.
type keepalives struct {
	mu     sync.Mutex
	sas    map[*sadb.SA]bool // outbound SAs in UDP
	sent   map[natFlow]int64 // when the last keepalive was sent
	timer  clock.Timer       // of the next keepAlive; nil: none
	closed bool
}

// A natFlow is what a NAT has a mapping for: this host's address and port, and the
// peer's.
type natFlow struct{ local, peer netip.AddrPort }

// A natPath has the source and the device of the last packet of an SA in UDP.
type natPath struct {
	d   *device
	src netip.Addr
}

// follow records how a packet of an SA in UDP is sent. It allocates if that has changed.
func (ss *states) follow(d *device, src netip.Addr) {
	if p := ss.path.Load(); p == nil || p.d != d || p.src != src {
		ss.path.Store(&natPath{d, src})
	}
}

// watch records SAs that were made (by = 1) or removed (by = -1).
func (e *Engine) watch(by int, sas ...*sadb.SA) {
	if by < 0 && len(sas) > 0 {
		e.reconsider()
		e.forgetter.soon()
	}
	e.ports.watch(by, sas...)
	e.groups.watch(e, by, sas...)
	e.lapses.watch(e, by, sas...)
	for _, sa := range sas {
		e.saMemory.Add(int64(by) * costOf(sa))
	}
	k := &e.keep
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, sa := range sas {
		_, inUDP := udpPort(sa)
		switch {
		case !inUDP || sa.Dir != klips.Outbound:
		case by < 0:
			delete(k.sas, sa)
		default:
			k.sas[sa] = true
		}
	}
	if k.timer == nil || len(k.sas) == 0 {
		e.lookLaterLocked(e.keepaliveTime())
	}
}

func (e *Engine) keepaliveTime() time.Duration {
	return time.Duration(e.knobs.keepalive.Load()) * time.Second
}

// lookLaterLocked sets the timer for keepAlive, if there are flows for it.
func (e *Engine) lookLaterLocked(d time.Duration) {
	k := &e.keep
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
	if !k.closed && len(k.sas) > 0 && e.keepaliveTime() > 0 {
		k.timer = e.clock.AfterFunc(max(d, keepaliveGap), e.keepAlive)
	}
}

// keepAlive sends keepalives for the flows that had no packet for the time of the knob.
// It sets the timer for the next one.
func (e *Engine) keepAlive() {
	k := &e.keep
	k.mu.Lock()
	due, next := e.quietLocked()
	e.lookLaterLocked(next)
	k.mu.Unlock()
	for f, d := range due {
		e.sendKeepalive(f, d)
	}
}

// quietLocked returns the flows that need a keepalive now, with their devices, and the
// time until another flow can need one. The flows count as sent.
func (e *Engine) quietLocked() (due map[natFlow]*device, next time.Duration) {
	k, every, now := &e.keep, e.keepaliveTime(), e.now()
	if every == 0 {
		return nil, 0
	}
	type use struct {
		d  *device
		at int64
	}
	flows := map[natFlow]use{}
	for sa := range k.sas {
		if sa.State() == klips.Dead {
			delete(k.sas, sa)
			continue
		}
		hard, _, _ := sa.Expired(now)
		if f, d := e.natFlow(sa); d != nil && !hard {
			flows[f] = use{d, max(flows[f].at, sa.Added, sa.LastUse.Load(), k.sent[f])}
		}
	}
	due, sent, next := map[natFlow]*device{}, map[natFlow]int64{}, every
	for f, u := range flows {
		if left := time.Duration(u.at + int64(every) - now); left > 0 {
			sent[f] = u.at
			next = min(next, left)
			continue
		}
		due[f], sent[f] = u.d, now
	}
	k.sent = sent
	return due, next
}

// natFlow returns the flow of an SA and the device that sends its packets. The device is
// nil if it is not known or has no attachment. Both are those of the last packet. Before
// the first packet they are the SA's source, and the device that the SA names or the only
// one.
func (e *Engine) natFlow(sa *sadb.SA) (f natFlow, d *device) {
	src := sa.Src
	if p := sa.Data.(*states).path.Load(); p != nil {
		src, d = p.src, p.d
	} else {
		attached := *e.attached.Load()
		for _, a := range attached {
			if len(attached) == 1 || sa.OutIf != 0 && int(sa.OutIf) == firstOutIf+a.num {
				d = a
			}
		}
	}
	if d == nil || d.att.Load() == nil || !src.IsValid() || src.IsUnspecified() || src.BitLen() != sa.ID.Dst.BitLen() {
		return natFlow{}, nil
	}
	n := sa.NATT.WithPorts()
	return natFlow{netip.AddrPortFrom(src, n.SPort), netip.AddrPortFrom(sa.ID.Dst, n.DPort)}, d
}

// firstOutIf is the number of ipsec0 in klips.SASpec.OutIf.
const firstOutIf = 49152

func (e *Engine) sendKeepalive(f natFlow, d *device) {
	a := d.att.Load()
	if a == nil {
		return
	}
	b := newKeepalive(f, a, e.nextID())
	failed := false
	a.mu.Lock()
	if !a.retired {
		a.wire.Send([]*packet.Buffer{b}, func(*packet.Buffer, error) { failed = true }, nil)
	}
	a.mu.Unlock()
	if e.trace.on(klips.DebugTunnel, debugXmit) && !failed {
		e.trace.line("tunnel", "NAT keepalive sent", slog.String("device", d.link.Name()),
			slog.String("from", f.local.String()), slog.String("to", f.peer.String()))
	}
}

// putHeader writes an IP header without options at the start of a packet of zeros, except its
// checksum.
func putHeader(p []byte, src, dst netip.Addr, proto, hops uint8) {
	if dst.Is4() {
		p[0], p[8], p[9] = 0x45, hops, proto
		copy(p[12:], src.AsSlice())
		copy(p[16:], dst.AsSlice())
	} else {
		p[0], p[6], p[7] = 0x60, proto, hops
		copy(p[8:], src.AsSlice())
		copy(p[24:], dst.AsSlice())
	}
	packet.SetTotal(p, len(p))
}

// newKeepalive makes a packet with one octet 0xff. The UDP checksum is 0 over IPv4
// (RFC 3948 section 2.3); IPv6 needs one.
func newKeepalive(f natFlow, a *attachment, id uint16) *packet.Buffer {
	const udp = 8 + 1
	head := ipip.Overhead(f.peer.Addr())
	b := &packet.Buffer{B: make([]byte, packet.Headroom+head+udp+packet.Tailroom), Off: packet.Headroom, End: packet.Headroom + head + udp}
	p := b.Bytes()
	hops := a.ttl6
	if f.peer.Addr().Is4() {
		hops = a.ttl4
		binary.BigEndian.PutUint16(p[4:], id)
	}
	putHeader(p, f.local.Addr(), f.peer.Addr(), packet.ProtoUDP, hops)
	u := p[head:]
	binary.BigEndian.PutUint16(u, f.local.Port())
	binary.BigEndian.PutUint16(u[2:], f.peer.Port())
	binary.BigEndian.PutUint16(u[4:], udp)
	u[8] = 0xff
	packet.FixChecksum(p)
	if h, ok := packet.ParseIP(p); ok {
		udpencap.Checksum(p, &h)
	}
	return b
}

// close ends the keepalives.
func (k *keepalives) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
}
