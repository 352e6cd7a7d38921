package watch

import (
	"context"
	"iter"
	"net/netip"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// A Notice is a message of a stack.
type Notice struct {
	// Expired is the SA of which a lifetime limit has passed, Hard whether it was a hard
	// one. Zero: the message is about something else.
	Expired klips.SAID
	Hard    bool
	// Event is an event that no snapshot shows, of the kind Acquire or PeerMoved; nil: none.
	Event *Event
}

// Notices returns the messages of a stack. Those without a meaning here are zero: they mean
// that something has changed. acquire registers with the stack, as a key daemon does; the
// stack then sends ACQUIRE, and packets wait for SAs. The sequence ends after an error. Other
// methods of the stack must not be called meanwhile. EOPNOTSUPP: the stack sends none.
func Notices(ctx context.Context, s klips.Stack, acquire bool) (iter.Seq2[Notice, error], error) {
	if n, ok := s.(klips.Notifier); ok {
		l, err := n.Notify(ctx, acquire)
		return func(yield func(Notice, error) bool) {
			for m, err := range l {
				if !yield(ofKernel(m), err) {
					return
				}
			}
		}, err
	}
	var w klips.EventWant
	if acquire {
		w.Register = []uint8{uint8(pfkey.SATypeESP)}
	}
	events, err := s.Events(ctx, w)
	return func(yield func(Notice, error) bool) {
		for e, err := range events {
			if !yield(ofMessage(e.PFKey), err) {
				return
			}
		}
	}, err
}

func ofKernel(m klips.Notice) (n Notice) {
	n.Expired, n.Hard = m.Expired, m.Hard
	switch {
	case m.Acquire != nil:
		n.Event = &Event{Kind: Acquire, Eroute: *m.Acquire}
	case m.Moved != klips.SAID{}:
		n.Event = &Event{Kind: PeerMoved, SA: m.Moved, From: m.From, To: m.To}
	}
	return n
}

// ofMessage returns the notice in a PF_KEY message; zero for one that is not valid.
func ofMessage(b []byte) (n Notice) {
	m, err := pfkey.Parse(b)
	if err != nil {
		return n
	}
	defer m.Clear() // ADD has keys
	switch m.Type {
	case pfkey.TypeExpire:
		if id, err := m.SAID(); err == nil {
			n.Expired, n.Hard = id, m.LifeHard != nil && m.LifeSoft == nil
		}
	case pfkey.TypeAcquire:
		if m.Src != nil && m.Dst != nil {
			one := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
			n.Event = &Event{Kind: Acquire, Eroute: klips.Selector{
				Src: one(m.Src.Addr), Dst: one(m.Dst.Addr), Proto: m.Src.Proto, SrcPort: m.Src.Port, DstPort: m.Dst.Port,
			}}
		}
	case pfkey.TypeNATTMapping:
		if m.SA != nil && m.Src != nil && m.Dst != nil && m.NATTSPort != nil && m.NATTDPort != nil {
			n.Event = &Event{Kind: PeerMoved, SA: klips.SAID{SPI: m.SA.SPI, Proto: klips.ProtoESP},
				From: netip.AddrPortFrom(m.Src.Addr, uint16(*m.NATTSPort)), To: netip.AddrPortFrom(m.Dst.Addr, uint16(*m.NATTDPort))}
		}
	}
	return n
}
