package module

import (
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// inboundFlag marks an inbound SA in messages: the bit that is also PFS.
const inboundFlag = 1

// add carries out ADD.
func (m *Module) add(msg *pfkey.Message) syscall.Errno {
	id, err := msg.SAID()
	if err != nil {
		return pfkey.Errno(err)
	}
	if id.Proto == klips.ProtoInt {
		return syscall.EINVAL
	}
	if m.find(id) != nil {
		return syscall.EEXIST
	}
	p, errno := m.build(id, msg)
	if errno != 0 {
		return errno
	}
	m.sarefs++
	if p.ref = m.sarefs; msg.SARef != nil {
		p.refHim = msg.SARef.Him
		if msg.SARef.Me != 0 {
			p.ref = msg.SARef.Me
		}
	}
	m.insert(p)
	r := answer(msg)
	r.LifeHard, r.LifeSoft, r.Src, r.IdentSrc, r.IdentDst = msg.LifeHard, msg.LifeSoft, msg.Src, msg.IdentSrc, msg.IdentDst
	r.SA = new(*msg.SA)
	r.SA.Flags, r.SA.Ref = p.wireFlags(), 0
	r.SARef = &pfkey.SARef{Me: p.ref, Him: p.refHim}
	m.tellAll(r)
	return 0
}

// answer starts an answer with the SA of the request.
func answer(msg *pfkey.Message) *pfkey.Message {
	r := pfkey.Ack(msg.Header)
	r.SA, r.Src, r.Dst = msg.SA, msg.Src, msg.Dst
	return r
}

func (p *sa) wireFlags() uint32 {
	if p.inbound {
		return p.flags | inboundFlag
	}
	return p.flags
}

// build makes the SA of an ADD or UPDATE, without entering it into a table.
func (m *Module) build(id klips.SAID, msg *pfkey.Message) (*sa, syscall.Errno) {
	a := sa{
		id: id, state: klips.Mature, flags: msg.SA.Flags, inbound: m.local(id.Dst), src: msg.Src.Addr,
		auth: uint8(msg.SA.Auth), enc: msg.SA.Encrypt, authBits: bits(msg.KeyAuth), encBits: bits(msg.KeyEncrypt),
		window: msg.SA.Replay,
	}
	ivBytes, errno := a.checkAlgorithms()
	if errno != 0 {
		return nil, errno
	}
	if msg.PlumbIf != nil && *msg.PlumbIf != 0 {
		a.outIf, a.transport = pfkey.OutIf(uint16(*msg.PlumbIf))
		if !m.has(a.outIf) {
			return nil, syscall.ENODEV
		}
	}
	a.natt = natt(msg, klips.NATT{})
	a.life = limits(msg.LifeSoft, msg.LifeHard)
	a.life.alloc.count, a.life.add.count = 1, m.seconds()
	for range ivBytes {
		a.iv = append(a.iv, byte(m.iv.Uint32()))
	}
	p := m.alloc()
	a.age, a.refs = p.age, p.refs
	*p = a
	return p, 0
}

func bits(k *pfkey.Key) int {
	if k == nil {
		return 0
	}
	return int(k.Bits)
}

// natt returns n with its values replaced by those in a message.
func natt(msg *pfkey.Message, n klips.NATT) klips.NATT {
	if msg.NATTType != nil {
		n.Type = klips.NATTType(*msg.NATTType)
	}
	if msg.NATTSPort != nil {
		n.SPort = uint16(*msg.NATTSPort)
	}
	if msg.NATTDPort != nil {
		n.DPort = uint16(*msg.NATTDPort)
	}
	return n
}

// limits returns a life with the limits of a message: a soft one above the hard
// one is lowered.
func limits(soft, hard *pfkey.Lifetime) (l life) {
	if hard != nil {
		l.alloc.hard, l.bytes.hard, l.add.hard, l.use.hard = uint64(hard.Allocations), hard.Bytes, hard.AddTime, hard.UseTime
	}
	if soft != nil {
		l.alloc.soft, l.bytes.soft, l.add.soft, l.use.soft = uint64(soft.Allocations), soft.Bytes, soft.AddTime, soft.UseTime
	}
	for _, c := range []*counter{&l.alloc, &l.bytes, &l.add, &l.use} {
		if c.hard != 0 {
			c.soft = min(c.soft, c.hard)
		}
	}
	return l
}

// update carries out UPDATE. With a NAT-T port it changes only the ports. Otherwise a
// new SA is inserted before the old one, which stays.
func (m *Module) update(msg *pfkey.Message) syscall.Errno {
	id, err := msg.SAID()
	if err != nil {
		return pfkey.Errno(err)
	}
	old := m.find(id)
	if old == nil {
		return syscall.ENOENT
	}
	p := old
	if msg.NATTSPort != nil || msg.NATTDPort != nil {
		old.natt = natt(msg, old.natt)
	} else {
		var errno syscall.Errno
		if p, errno = m.build(id, msg); errno != 0 {
			return errno
		}
		p.life.add.count, p.refs = old.life.add.count, refsFresh-1 // it has no SAref
		m.insert(p)
	}
	r := answer(msg)
	r.LifeHard, r.LifeSoft, r.IdentSrc, r.IdentDst = msg.LifeHard, msg.LifeSoft, msg.IdentSrc, msg.IdentDst
	r.LifeCurrent = lifetime(p.life, func(c counter) uint64 { return c.count })
	m.tellAll(r)
	return 0
}

// reserve carries out GETSPI. The kernel tries random SPIs; this takes the lowest free
// one.
func (m *Module) reserve(msg *pfkey.Message) syscall.Errno {
	id := klips.SAID{Dst: msg.Dst.Addr}
	id.Proto, _ = msg.SAType.Proto()
	for spi := uint64(msg.SPIRange.Min); spi <= uint64(msg.SPIRange.Max); spi++ {
		if id.SPI = klips.SPI(spi); m.find(id) != nil {
			continue
		}
		p := m.alloc()
		m.sarefs++
		p.id, p.src, p.inbound, p.ref = id, msg.Src.Addr, m.local(id.Dst), m.sarefs
		p.life.alloc.count, p.life.add.count = 1, m.seconds()
		m.insert(p)
		r := answer(msg)
		r.SA = &pfkey.SA{SPI: id.SPI}
		m.tellAll(r)
		return 0
	}
	return syscall.EEXIST
}

// remove carries out DELETE.
func (m *Module) remove(msg *pfkey.Message) syscall.Errno {
	id, err := msg.SAID()
	if err != nil {
		return pfkey.Errno(err)
	}
	p := m.find(id)
	if p == nil {
		return syscall.ESRCH
	}
	r := answer(msg)
	r.SA = &pfkey.SA{SPI: id.SPI, Ref: p.ref}
	m.unmake(p)
	m.tellAll(r)
	return 0
}

// get carries out GET. SA and addresses are those of the request; the lifetimes have
// KLIPS' seconds instead of times. Only the sender gets the answer.
func (s *Socket) get(msg *pfkey.Message) syscall.Errno {
	id, err := msg.SAID()
	if err != nil {
		return pfkey.Errno(err)
	}
	p := s.m.find(id)
	if p == nil {
		return syscall.ESRCH
	}
	r := answer(msg)
	r.LifeCurrent = lifetime(p.life, func(c counter) uint64 { return c.count })
	r.LifeHard = lifetime(p.life, func(c counter) uint64 { return c.hard })
	r.LifeSoft = lifetime(p.life, func(c counter) uint64 { return c.soft })
	s.send(r)
	return 0
}

// lifetime returns the values that of selects, nil if all are 0.
func lifetime(l life, of func(counter) uint64) *pfkey.Lifetime {
	t := pfkey.Lifetime{Allocations: uint32(of(l.alloc)), Bytes: of(l.bytes), AddTime: of(l.add), UseTime: of(l.use)}
	if t == (pfkey.Lifetime{}) {
		return nil
	}
	return &t
}

// Use counts packets of an SA. bytes may be negative: AH counts outbound packets
// wrongly, so that its counter goes below zero. It reports whether the SA exists.
func (m *Module) Use(id klips.SAID, packets uint64, bytes int64) bool {
	p := m.find(id)
	if p == nil {
		return false
	}
	p.life.packets.count += packets
	p.life.bytes.count += uint64(bytes)
	p.used = m.seconds()
	if p.life.use.count == 0 {
		p.life.use.count = p.used
	}
	return true
}

// Refs returns the references of an SA, 0 if it does not exist.
func (m *Module) Refs(id klips.SAID) int {
	if p := m.find(id); p != nil {
		return p.refs
	}
	return 0
}
