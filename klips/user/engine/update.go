package engine

import (
	"context"
	"net/netip"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// retireAfter is how long a packet in processing can use an SA after it was replaced. The
// real time is much shorter.
const retireAfter = time.Second

// ReserveSA makes a larval SA, which [Engine.UpdateSA] completes. Its SPI is random, from
// low to high, and free for the destination and protocol of id. ReserveSA returns that
// SPI. The SA is inbound if the destination is a local address now. EEXIST: no SPI is
// free. ENOBUFS: the memory limit is reached.
func (e *Engine) ReserveSA(_ context.Context, id klips.SAID, src netip.Addr, low, high klips.SPI) (klips.SPI, error) {
	err := e.room(saCost)
	var sa *sadb.SA
	if err == nil {
		sa, err = e.sas.Reserve(id, src, low, high, e.direction(id.Dst, src), e.now(), initStates)
	}
	if err := e.saDone("reserve SA", id, err); err != nil {
		return 0, err
	}
	e.watch(1, sa)
	return sa.ID.SPI, nil
}

// UpdateSA gives an SA, which may be larval, the algorithms, keys and limits of spec; see
// [sadb.DB.Update] for what it keeps. Each packet uses either the old or the new ones.
// ENOENT: there is no such SA; other errors as for AddSA.
func (e *Engine) UpdateSA(_ context.Context, spec *klips.SASpec) error {
	begun, err := e.keeper.beginAnew(spec, e.sas.Lookup(spec.ID))
	if err != nil {
		return e.saDone("update SA", spec.ID, err)
	}
	old, sa, err := e.sas.Update(spec, e.direction(spec.ID.Dst, spec.Src), func(sa *sadb.SA) error {
		begun.start(sa)
		return initStates(sa)
	})
	e.keeper.begun(begun, sa)
	if err := e.saDone("update SA", spec.ID, err); err != nil {
		return err
	}
	keepPathMTU(old, sa)
	e.watch(1, sa) // before the next line, or a port that stays would be closed for a moment
	e.watch(-1, old)
	e.greet(sa)
	e.heed(sa)
	e.clock.AfterFunc(retireAfter, func() {
		old.Retire()
		if old.Sent != sa.Sent {
			e.keeper.ended(old)
		}
	})
	return nil
}

// SetPorts changes only the UDP ports of an SA. ENOENT: there is no such SA.
func (e *Engine) SetPorts(_ context.Context, id klips.SAID, sport, dport uint16) error {
	old, sa, err := e.sas.SetPorts(id, sport, dport)
	if err := e.saDone("update SA", id, err); err != nil {
		return err
	}
	e.watch(1, sa)
	e.watch(-1, old)
	return nil
}

func (e *Engine) direction(dst, src netip.Addr) klips.Direction {
	return klips.DirectionOf(dst, src, e.host.IsLocal)
}
