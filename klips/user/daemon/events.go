package daemon

import (
	"net/netip"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// The server sends the engine's events to key daemons. Packets wait only while a message
// is put into memory.
var _ engine.Events = (*server)(nil)

// Expire broadcasts that a lifetime limit of an SA has passed.
func (s *server) Expire(sa *klips.SA, hard bool) {
	m := pfkey.Expire(sa, hard, s.clock.Now())
	m.Seq = s.seq.Add(1)
	if b := s.marshal(m); b != nil {
		s.clients.broadcast(everyone, b)
	}
}

// Acquire asks the clients that registered for ESP for an SA, whatever its protocol will
// be, as a KLIPS kernel does.
func (s *server) Acquire(a *engine.Acquisition) bool {
	if s.clients.count(pfkey.SATypeESP) == 0 {
		return false
	}
	m := pfkey.Acquire(pfkey.Acquisition{
		Src: a.Src, Dst: a.Dst, Proto: a.Proto,
		IdentSrc: ident(a.Trap.IdentSrc), IdentDst: ident(a.Trap.IdentDst),
	})
	m.Seq = s.seq.Add(1)
	b := s.marshal(m)
	return b != nil && s.clients.broadcast(pfkey.SATypeESP, b) > 0
}

// NewMapping reports to the clients that registered for ESP that the address or port of
// a peer behind a NAT has changed.
func (s *server) NewMapping(id klips.SAID, from, to netip.AddrPort) bool {
	if s.clients.count(pfkey.SATypeESP) == 0 {
		return false
	}
	m := pfkey.NewMapping(id, from, to)
	m.Seq = s.seq.Add(1)
	b := s.marshal(m)
	return b != nil && s.clients.broadcast(pfkey.SATypeESP, b) > 0
}

// BelowMark logs that an SA refuses sequence numbers that an earlier SA received.
// Packets do not wait for the log.
func (s *server) BelowMark(id klips.SAID, mark uint64) {
	go s.log.Warn("packets are refused whose sequence numbers an earlier SA with this key has received; if the peer has started again, make the SA again, to receive from sequence number 0",
		"said", id.String(), "received", mark)
}

func ident(i *klips.Ident) *pfkey.Ident { return (*pfkey.Ident)(i) }

// marshal returns a message for the wire, nil for one that cannot be sent.
func (s *server) marshal(m *pfkey.Message) []byte {
	b, err := m.Marshal()
	if err == nil && len(b) > pfkey.MaxMessage {
		// Long identities make the answer longer than its request; clients have no room for it.
		err = syscall.EMSGSIZE
	}
	if err != nil {
		s.log.Error("message not sent", "type", m.Type, "err", err)
		return nil
	}
	return b
}
