package module

import (
	"syscall"

	"github.com/klips-go/ipsec/klips/pfkey"
)

// group carries out X_GRPSA: it links two SAs, or takes apart what follows one.
func (m *Module) group(msg *pfkey.Message) syscall.Errno {
	id, err := msg.SAID()
	if err != nil {
		return pfkey.Errno(err)
	}
	a := m.find(id)
	if a == nil {
		return syscall.ENOENT
	}
	if msg.SA2 == nil {
		m.ungroup(a)
		m.tellAll(pfkey.GroupReply(msg))
		return 0
	}
	if id, err = msg.SAID2(); err != nil {
		return pfkey.Errno(err)
	}
	b := m.find(id)
	if b == nil {
		return syscall.ENOENT
	}
	first, second := a, b
	if b.inbound { // inbound packets go through the outer SA first
		first, second = b, a
	}
	if errno := m.link(first, second); errno != 0 {
		return errno
	}
	m.tellAll(pfkey.GroupReply(msg))
	return 0
}

// link makes second follow first. It does not check whether second follows another
// already: two SAs then share it, and it points back at the later one.
func (m *Module) link(first, second *sa) syscall.Errno {
	if first.next.to != nil {
		return syscall.EEXIST
	}
	for _, p := range m.from(second) {
		if p == first {
			return syscall.EEXIST
		}
	}
	first.next, second.prev = linkTo(second), linkTo(first)
	return 0
}

// from returns an SA and its followers, including freed ones: reading does no harm.
func (m *Module) from(p *sa) (l []*sa) {
	most := len(m.free) + len(m.all())
	for ; p != nil && len(l) <= most; p = p.next.to {
		l = append(l, p)
	}
	return l
}

// ungroup unlinks an SA and all its followers from each other, and drops a reference of
// each follower, which was never taken. An SA before the named one still points at it.
func (m *Module) ungroup(p *sa) {
	l := p.next
	p.next, p.prev = link{}, link{}
	for l.to != nil {
		q := l.to
		if l.dangles() {
			m.fault("use after free: ungroup reached %v, where another SA was freed", q.id)
		}
		if !q.live {
			return
		}
		l = q.next
		q.next, q.prev = link{}, link{}
		m.put(q)
	}
}

// unmake deletes an SA with its chain, from the head that its own links lead to, to the
// end.
func (m *Module) unmake(p *sa) {
	for range m.all() {
		l := p.prev
		if l.dangles() {
			m.fault("use after free: delete went back from %v to a freed SA", p.id)
		}
		if l.to == nil || !l.to.live {
			break
		}
		p = l.to
	}
	for p != nil && p.live {
		id, l := p.id, p.next
		m.release(p)
		if l.dangles() {
			m.fault("use after free: delete went on from %v to a freed SA", id)
		}
		p = l.to
	}
}
