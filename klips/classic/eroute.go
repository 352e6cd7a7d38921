package classic

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// DeleteEroute removes an eroute (X_DELFLOW). KLIPS compares the masks only if several
// eroutes have the same addresses, protocol and ports, and even then may take an eroute
// with other masks. ENOENT: it would remove an eroute with other masks. EFAULT: there
// is no such eroute. EOPNOTSUPP with klips.FaultFlow6: an IPv6 selector with a protocol
// or ports.
func (s *Stack) DeleteEroute(ctx context.Context, sel klips.Selector) error {
	if err := checkFlow("delete eroute", sel); err != nil {
		return err
	}
	if other, wrong := s.otherMasks(ctx, sel); wrong {
		return &klips.OpError{
			Op: "delete eroute", Object: sel.String(), Err: syscall.ENOENT,
			Reason: fmt.Sprintf("there is none with these masks, and KLIPS would remove %v in its place", other),
		}
	}
	return s.Asker.DeleteEroute(ctx, sel)
}

// SetEroute adds or replaces an eroute or sets an inbound policy (X_ADDFLOW). Replacing
// removes the old eroute as in [Stack.DeleteEroute], with the same errors. EOPNOTSUPP with
// klips.FaultAlso: KLIPS sends the packets of an eroute to one SA.
func (s *Stack) SetEroute(ctx context.Context, e klips.Eroute, op klips.ErouteOp) error {
	if err := checkFlow("set eroute", e.Selector); err != nil {
		return err
	}
	if err := e.CheckAlso("set eroute", s.Has(klips.CapAlso)); err != nil {
		return err
	}
	if op == klips.ErouteReplace {
		if other, wrong := s.otherMasks(ctx, e.Selector); wrong {
			return &klips.OpError{
				Op: "add eroute", Object: e.Selector.String(), Err: syscall.ENOENT,
				Reason: fmt.Sprintf("there is none with these masks, and KLIPS would replace %v; add it, which leaves that one alone", other),
			}
		}
	}
	return s.Asker.SetEroute(ctx, e, op)
}

// checkFlow refuses selectors that KLIPS stores wrongly: in its key of an IPv6 flow the
// protocol overlaps the source address, so that the eroute would match other packets.
func checkFlow(op string, sel klips.Selector) error {
	if !sel.Is6() || sel.Proto == 0 && sel.SrcPort == 0 && sel.DstPort == 0 {
		return nil
	}
	return &klips.OpError{Op: op, Object: sel.String(), Err: syscall.EOPNOTSUPP, Fault: klips.FaultFlow6}
}

// otherMasks returns an eroute that differs from a selector only in its masks, if no
// eroute has that selector: KLIPS may confuse the two. It returns none if the tables
// cannot be read.
func (s *Stack) otherMasks(ctx context.Context, sel klips.Selector) (other klips.Selector, found bool) {
	routes, err := s.Eroutes(ctx)
	if err != nil {
		return other, false
	}
	for _, r := range routes {
		if r.Selector == sel {
			return other, false
		}
		if !found && withoutMasks(r.Selector) == withoutMasks(sel) {
			other, found = r.Selector, true
		}
	}
	return other, found
}

func withoutMasks(s klips.Selector) klips.Selector {
	s.Src, s.Dst = netip.PrefixFrom(s.Src.Addr(), 0), netip.PrefixFrom(s.Dst.Addr(), 0)
	return s
}
