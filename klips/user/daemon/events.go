package daemon

import (
	"net/netip"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// The server tells key daemons what the engine sees; packets wait for that only
// as long as it takes to write a message into memory.
var _ engine.Events = (*server)(nil)

// Expire tells everyone that a lifetime limit of an SA has passed.
func (s *server) Expire(sa *klips.SA, hard bool) {
	m := pfkey.Expire(sa, hard, s.clock.Now())
	m.Seq = s.seq.Add(1)
	if b := s.marshal(m); b != nil {
		s.audience.tell(everyone, b)
	}
}

// Acquire asks those who registered for ESP for an SA, whatever the SA will be,
// as a KLIPS kernel does.
func (s *server) Acquire(a *engine.Acquisition) bool {
	if s.audience.count(pfkey.SATypeESP) == 0 {
		return false
	}
	m := pfkey.Acquire(pfkey.Acquisition{
		Src: a.Src, Dst: a.Dst, Proto: a.Proto,
		IdentSrc: ident(a.Trap.IdentSrc), IdentDst: ident(a.Trap.IdentDst),
	})
	m.Seq = s.seq.Add(1)
	b := s.marshal(m)
	return b != nil && s.audience.tell(pfkey.SATypeESP, b) > 0
}

// NewMapping tells those who registered for ESP that a peer behind a NAT has
// moved.
func (s *server) NewMapping(id klips.SAID, from, to netip.AddrPort) bool {
	if s.audience.count(pfkey.SATypeESP) == 0 {
		return false
	}
	m := pfkey.NewMapping(id, from, to)
	m.Seq = s.seq.Add(1)
	b := s.marshal(m)
	return b != nil && s.audience.tell(pfkey.SATypeESP, b) > 0
}

// BelowMark writes into the log that an SA refuses what was received before; packets do
// not wait for that.
func (s *server) BelowMark(id klips.SAID, mark uint64) {
	go s.log.Warn("packets are refused whose sequence numbers an earlier SA with this key has received; if the peer has started again, make the SA again, to receive from sequence number 0",
		"said", id.String(), "received", mark)
}

func ident(i *klips.Ident) *pfkey.Ident { return (*pfkey.Ident)(i) }

// marshal returns a message for the wire, nil for one that cannot be sent.
func (s *server) marshal(m *pfkey.Message) []byte {
	b, err := m.Marshal()
	if err == nil && len(b) > pfkey.MaxMessage {
		// Identities of a request as long as can be; clients have no room for it.
		err = syscall.EMSGSIZE
	}
	if err != nil {
		s.log.Error("message not sent", "type", m.Type, "err", err)
		return nil
	}
	return b
}
