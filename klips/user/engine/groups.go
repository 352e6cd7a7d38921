package engine

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/klips-go/ipsec/klips/user/sadb"
)

// SAs to multicast groups, as routing protocols have them (RFC 4552). A physical device
// takes no packets to a group that the host has not joined on it. The programs join on
// ipsecN, which is not where the protected packets come in, so the engine joins there.

// groups are the multicast groups that SAs receive from. The host is a member of them on
// each attached physical device.
type groups struct {
	mu     sync.Mutex
	wanted map[netip.Addr]int // how many SAs receive from a group
	onLink int                // how many SAs there are for which onLink reports true

	// settling is held by who joins and leaves, which can wait for the kernel; packet
	// workers do not take it.
	settling sync.Mutex
	members  map[*attachment]*membership // guarded by settling
}

// A membership is the groups of a wire, which is that of a device.
type membership struct {
	d      *device
	joined map[netip.Addr]bool // false: the host could not join
}

func (g *groups) init() {
	g.wanted, g.members = map[netip.Addr]int{}, map[*attachment]*membership{}
}

// onLink reports whether an SA protects what IPv6 hosts send to others on their link:
// its destination is a multicast group or a link-local address. Their sources are
// link-local addresses (RFC 5340 section 2.5, RFC 2080 section 2.5).
func onLink(sa *sadb.SA) bool {
	a := sa.ID.Dst
	return a.Is6() && (a.IsMulticast() || a.IsLinkLocalUnicast())
}

// watch takes note of SAs that were made (by = 1) or removed (by = -1), and joins and
// leaves accordingly. Packet workers remove SAs, too, so leaving is not waited for.
func (g *groups) watch(e *Engine, by int, sas ...*sadb.SA) {
	var changed []netip.Addr
	g.mu.Lock()
	for _, sa := range sas {
		if onLink(sa) {
			g.onLink += by
		}
		a := sa.ID.Dst
		if !a.IsMulticast() || !sa.Dir.Receives() {
			continue
		}
		had := g.wanted[a] > 0
		g.wanted[a] += by
		if had != (g.wanted[a] > 0) {
			changed = append(changed, a)
		}
		if g.wanted[a] == 0 {
			delete(g.wanted, a)
		}
	}
	g.mu.Unlock()
	switch {
	case changed == nil:
	case by < 0:
		go g.settle(e, changed)
	default:
		g.settle(e, changed)
	}
}

// hasOnLink reports whether there is an SA for which onLink reports true.
func (g *groups) hasOnLink() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.onLink > 0
}

// isWanted reports whether an SA receives from a group.
func (g *groups) isWanted(group netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wanted[group] > 0
}

// settle joins the groups that are wanted now, and leaves those that are not.
func (g *groups) settle(e *Engine, changed []netip.Addr) {
	g.settling.Lock()
	defer g.settling.Unlock()
	for a, m := range g.members {
		left := false
		for _, group := range changed {
			left = g.settleLocked(e, a, m, group) || left
		}
		if !left {
			continue
		}
		for group, joined := range m.joined { // there is room for one that could not be joined
			if !joined {
				g.settleLocked(e, a, m, group)
			}
		}
	}
}

// settleLocked joins or leaves one group, and reports whether it has left it.
func (g *groups) settleLocked(e *Engine, a *attachment, m *membership, group netip.Addr) (left bool) {
	joined, tried := m.joined[group]
	wanted := g.isWanted(group)
	switch {
	case wanted && !joined:
		err := a.wire.Join(group)
		m.joined[group] = err == nil
		if err != nil && !tried {
			e.inform(slog.LevelError, "the host cannot join a multicast group, and may not get its packets", m.d, a.wire.Name(),
				slog.Any("group", group), slog.Any("err", err))
		}
	case !wanted:
		delete(m.joined, group)
		if joined {
			_ = a.wire.Leave(group) // else it receives what no SA is for
		}
		return joined
	}
	return false
}

// attach joins the groups on the wire of a new attachment.
func (g *groups) attach(e *Engine, d *device, a *attachment) {
	g.settling.Lock()
	defer g.settling.Unlock()
	m := &membership{d, map[netip.Addr]bool{}}
	g.members[a] = m
	g.mu.Lock()
	wanted := slices.Collect(maps.Keys(g.wanted))
	g.mu.Unlock()
	for _, group := range wanted {
		g.settleLocked(e, a, m, group)
	}
}

// detach forgets an attachment. The memberships end when its wire is closed.
func (g *groups) detach(a *attachment) {
	g.settling.Lock()
	defer g.settling.Unlock()
	delete(g.members, a)
}

// greet gives attached devices link-local addresses for the sake of an SA.
func (e *Engine) greet(sa *sadb.SA) {
	if !onLink(sa) {
		return
	}
	e.devMu.Lock()
	defer e.devMu.Unlock()
	for _, d := range e.devicesLocked() {
		if a := d.att.Load(); a != nil && !d.shares {
			e.shareLocked(d, a)
		}
	}
}

// shareLocked gives a device the link-local addresses of its physical device. The same,
// because a peer resolves the source of a packet by neighbour discovery on the link, where
// the host answers only for the addresses of the physical device; and because the ICV of
// AH covers the source, so that nobody can replace it on the way. The device keeps them
// until it is detached, whatever becomes of the SAs: routing daemons would drop all
// neighbours if they went while a key is changed.
func (e *Engine) shareLocked(d *device, a *attachment) {
	d.shares = true
	if err := d.link.ShareLinkLocal(a.wire.Index()); err != nil {
		e.inform(slog.LevelError, "the device cannot have the link-local addresses of its physical device", d, a.wire.Name(), slog.Any("err", err))
	}
}

// unshareLocked takes the link-local addresses of a physical device away again.
func (d *device) unshareLocked() {
	if d.shares {
		d.shares = false
		_ = d.link.ShareLinkLocal(0)
	}
}
