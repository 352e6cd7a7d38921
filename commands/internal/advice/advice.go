// Package advice checks what a command has done, and notes where the result is not what
// the user may expect. The stacks accept such eroutes and groups, because KLIPS does
// and because missing parts may follow. A note describes what happens to packets until
// then.
package advice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
)

// Eroute checks an eroute or an inbound policy that has been set.
func Eroute(e klips.Eroute, policy bool) cli.Check {
	return func(ctx context.Context, t cli.Tables) []string {
		if e.ID.IsMagic() {
			return nil
		}
		group, err := t.Group(ctx, e.ID)
		if policy {
			if err != nil {
				return nil
			}
			return append(links(group), inbound(e.ID, group)...)
		}
		var notes []string
		switch {
		case err == nil:
			notes = outbound(e.ID, group)
		case errors.Is(err, syscall.ESRCH):
			notes = []string{missing(e.ID)}
		}
		for _, id := range e.Also {
			switch group, err := t.Group(ctx, id); {
			case err == nil:
				notes = append(notes, outbound(id, group)...)
			case errors.Is(err, syscall.ESRCH):
				notes = append(notes, fmt.Sprintf("there is no SA %v; its share of the packets goes to %v until it is made (ipsec spi)", id, e.ID))
			}
		}
		if notes == nil || !t.HasEroute(ctx, e) {
			return nil
		}
		return notes
	}
}

func missing(id klips.SAID) string {
	if id.SPI == 0 { // the only SAID with SPI 0 that the command accepts
		return fmt.Sprintf("%v names an SA that cannot exist, so packets of this eroute are dropped; %%pass sends them in clear", id)
	}
	return fmt.Sprintf("there is no SA %v; packets of this eroute are dropped until it is made (ipsec spi)", id)
}

// outbound checks the SA of an eroute.
func outbound(id klips.SAID, group []klips.SA) []string {
	return append(links(group), place(id, group)...)
}

// place checks the position of an eroute's SA in its group.
func place(id klips.SAID, group []klips.SA) []string {
	i := slices.IndexFunc(group, func(sa klips.SA) bool { return sa.ID == id })
	switch {
	case i < 0:
		return nil
	case group[i].Dir == klips.Inbound:
		return []string{fmt.Sprintf("%v is an inbound SA, because %s is an address of this host; packets of this eroute do not reach another host: name the SA to the other end",
			id, klips.FormatAddr(id.Dst))}
	case i > 0:
		return []string{fmt.Sprintf("%v is not the first SA of its group; packets of this eroute do not go through %v: name that one to have the whole group",
			id, group[0].ID)}
	}
	return nil
}

// inbound checks the SA that has received an inbound policy: the first tun SA from the
// named one on, or else the last SA.
func inbound(id klips.SAID, group []klips.SA) []string {
	chain := group[max(slices.IndexFunc(group, func(sa klips.SA) bool { return sa.ID == id }), 0):]
	if len(chain) == 0 {
		return nil
	}
	owner := chain[len(chain)-1]
	if i := slices.IndexFunc(chain, func(sa klips.SA) bool { return sa.ID.Proto == klips.ProtoTun }); i >= 0 {
		owner = chain[i]
	}
	if owner.Dir == klips.Outbound {
		return []string{fmt.Sprintf("%v is an outbound SA, because %s is no address of this host; an inbound policy has an effect only on packets that come to this host",
			owner.ID, klips.FormatAddr(owner.ID.Dst))}
	}
	return nil
}

// Group checks a group that has been made, or joined with others.
func Group(ids []klips.SAID) cli.Check {
	return func(ctx context.Context, t cli.Tables) []string {
		group, err := t.Group(ctx, ids[0])
		if err != nil {
			return nil // the command succeeded; only the check cannot be made
		}
		whole := make([]klips.SAID, len(group))
		for i, sa := range group {
			whole[i] = sa.ID
		}
		// Commands name SAs from the innermost to the outermost, for both directions.
		if group[0].Dir == klips.Inbound {
			slices.Reverse(whole)
		}
		notes := links(group)
		for _, f := range newFaults(whole, ids) {
			notes = append(notes, groupText(f))
		}
		return notes
	}
}

// newFaults returns the faults of a group that its parts did not have before ids were
// linked.
func newFaults(whole, ids []klips.SAID) []klips.GroupFault {
	faults := klips.CheckGroup(whole)
	if faults == nil {
		return nil
	}
	start := 0
	for i := 1; i <= len(whole); i++ {
		if i < len(whole) && !linked(whole[i-1], whole[i], ids) {
			continue
		}
		for _, old := range klips.CheckGroup(whole[start:i]) {
			faults = slices.DeleteFunc(faults, func(f klips.GroupFault) bool { return f == old })
		}
		start = i
	}
	return faults
}

// linked reports whether the command with ids has linked a and b.
func linked(a, b klips.SAID, ids []klips.SAID) bool {
	i := slices.Index(ids, a)
	return i >= 0 && i+1 < len(ids) && ids[i+1] == b
}

// Port checks an SA in UDP that has been made: to receive packets it can need a program
// that holds the port.
func Port(id klips.SAID, natt klips.NATT) cli.Check {
	natt = natt.WithPorts()
	return func(ctx context.Context, t cli.Tables) []string {
		if natt.Type == klips.NATTNone || !t.NeedsPort(ctx, natt.DPort) {
			return nil
		}
		group, err := t.Group(ctx, id)
		i := slices.IndexFunc(group, func(sa klips.SA) bool { return sa.ID == id })
		if err != nil || i < 0 || group[i].Dir != klips.Inbound {
			return nil
		}
		option := ""
		if natt.Type == klips.NATTNonIKE {
			option = "--nonike "
		}
		return []string{fmt.Sprintf("nothing arrives in UDP for %v until a program takes ESP out of port %d: ipsec natt %s%d", id, natt.DPort, option, natt.DPort)}
	}
}

func groupText(f klips.GroupFault) string {
	switch f.Kind {
	case klips.GroupDestination:
		return fmt.Sprintf("%v and %v have different destinations; a packet goes to one of the two hosts, which does not have the SA of the other: a tun SA to %s has to stand before %v",
			f.SA, f.Other, klips.FormatAddr(f.SA.Dst), f.SA)
	case klips.GroupInside:
		return fmt.Sprintf("%v stands before %v, and so inside that tunnel; SAs are named from the inside to the outside, and the hosts behind %s do not have this SA: name the tun SA first",
			f.SA, f.Other, klips.FormatAddr(f.Other.Dst))
	case klips.GroupCompression:
		return fmt.Sprintf("%v stands after %v; what is encrypted or authenticated first is not compressed any more: name the comp SA before it", f.SA, f.Other)
	case klips.GroupBare:
		return fmt.Sprintf("%v is the outermost SA, so packets leave as plain IP-in-IP, which KLIPS does not receive; name an esp or ah SA after it", f.SA)
	}
	return fmt.Sprintf("%v and %v do not fit in one group", f.SA, f.Other)
}

// Ungroup checks a group that has been taken apart: its eroutes still lead to the SA
// that was the first.
func Ungroup(id klips.SAID) cli.Check {
	return func(ctx context.Context, t cli.Tables) []string {
		eroutes, err := t.Eroutes(ctx)
		if err != nil {
			return nil // the command succeeded; only the check cannot be made
		}
		var bare []klips.Eroute
		for _, e := range eroutes {
			if e.ID.Dst != id.Dst {
				continue // the same holds for its further SAs
			}
			ids := e.SAIDs()
			if i := slices.IndexFunc(ids, func(id klips.SAID) bool { return unprotected(ctx, t, id) }); i >= 0 {
				e.ID = ids[i]
				bare = append(bare, e)
			}
		}
		if bare == nil {
			return nil
		}
		others := ""
		if n := len(bare) - 1; n > 0 {
			others = fmt.Sprintf(" (as %d more go to such SAs)", n)
		}
		e := bare[0]
		return []string{fmt.Sprintf("the eroute %v still goes to %v%s, which no esp or ah SA follows any more, so its packets leave without protection; remove it (ipsec eroute --del), or group the SA anew",
			e.Selector, e.ID, others)}
	}
}

// unprotected reports whether packets to an existing SA pass neither an esp nor an ah
// SA.
func unprotected(ctx context.Context, t cli.Tables, id klips.SAID) bool {
	if id.IsMagic() {
		return false
	}
	group, err := t.Group(ctx, id)
	i := slices.IndexFunc(group, func(sa klips.SA) bool { return sa.ID == id })
	return err == nil && i >= 0 && group[i].Dir.Sends() &&
		!slices.ContainsFunc(group[i:], func(sa klips.SA) bool { return sa.ID.Proto == klips.ProtoESP || sa.ID.Proto == klips.ProtoAH })
}
