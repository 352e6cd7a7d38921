package engine

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Routing protocols use SAs to multicast groups (RFC 4552). A physical device receives
// packets to a group only if the host has joined the group on that device. Programs join
// on ipsecN, but the protected packets arrive on the physical device. So the engine joins
// there.

// groups are the multicast groups that SAs receive from. The host is a member of them on
// each attached physical device.
type groups struct {
	mu     sync.Mutex
	wanted map[netip.Addr]int // how many SAs receive from a group
	onLink int                // how many SAs onLink reports true for

	// settling is held while groups are joined and left, which can wait for the kernel.
	// Packet workers do not take it.
	settling sync.Mutex
	members  map[*attachment]*membership // guarded by settling
}

// A membership has the groups of the wire of one device.
type membership struct {
	d      *device
	joined map[netip.Addr]bool // false: the host could not join
}

func (g *groups) init() {
	g.wanted, g.members = map[netip.Addr]int{}, map[*attachment]*membership{}
}

// onLink reports whether an SA protects packets between IPv6 hosts on one link: its
// destination is a multicast group or a link-local address. The sources of these packets
// are link-local addresses (RFC 5340 section 2.5, RFC 2080 section 2.5).
func onLink(sa *sadb.SA) bool {
	a := sa.ID.Dst
	return a.Is6() && (a.IsMulticast() || a.IsLinkLocalUnicast())
}

// watch records SAs that were made (by = 1) or removed (by = -1), and joins and leaves
// groups. Packet workers remove SAs, too, so watch does not wait for groups to be left.
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

// hasOnLink reports whether onLink reports true for any SA.
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

// settle joins the groups that SAs need now, and leaves the others.
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
		for group, joined := range m.joined { // another membership has ended: try again
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
			_ = a.wire.Leave(group) // otherwise it receives packets that no SA is for
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

// detach removes an attachment. Its memberships end when its wire is closed.
func (g *groups) detach(a *attachment) {
	g.settling.Lock()
	defer g.settling.Unlock()
	delete(g.members, a)
}

// greet gives attached devices link-local addresses if an SA needs them.
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

// shareLocked gives a device the link-local addresses of its physical device. Other
// addresses would not work. A peer resolves the source of a packet by neighbour discovery
// on the link, where the host answers only for the addresses of the physical device. The
// ICV of AH covers the source, so it cannot be replaced on the way. The device keeps the
// addresses until it is detached, even if all SAs are removed: otherwise routing daemons
// would lose all neighbours while a key is changed.
func (e *Engine) shareLocked(d *device, a *attachment) {
	d.shares = true
	if err := d.link.ShareLinkLocal(a.wire.Index()); err != nil {
		e.inform(slog.LevelError, "the device cannot have the link-local addresses of its physical device", d, a.wire.Name(), slog.Any("err", err))
	}
}

// unshareLocked removes the link-local addresses of a physical device.
func (d *device) unshareLocked() {
	if d.shares {
		d.shares = false
		_ = d.link.ShareLinkLocal(0)
	}
}
