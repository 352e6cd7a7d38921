package manual

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A snapshot holds the tables of a stack, read once.
type snapshot struct {
	sas     map[klips.SAID]klips.SA
	groups  map[klips.SAID][]klips.SAID // all members of an SA's group, with the SA itself
	eroutes []klips.Eroute
	devices []klips.Device
	unread  []klips.UnreadLine
}

func readSnapshot(ctx context.Context, stack klips.Stack) (*snapshot, error) {
	list, err := klips.ReadSAs(ctx, stack)
	if err != nil {
		return nil, fmt.Errorf("the list of SAs: %w", err)
	}
	s := &snapshot{sas: map[klips.SAID]klips.SA{}, groups: map[klips.SAID][]klips.SAID{}}
	for _, sa := range list {
		s.sas[sa.ID] = sa
		s.groups[sa.ID] = []klips.SAID{sa.ID}
	}
	t, err := stack.Snapshot(ctx, klips.Want{Unread: klips.TextTables[:]})
	if err != nil {
		return nil, fmt.Errorf("the tables: %w", err)
	}
	s.unread = t.Unread
	for _, l := range s.unread {
		if l.Table == "ipsec_spi" && l.ID != (klips.SAID{}) && s.groups[l.ID] == nil {
			s.groups[l.ID] = []klips.SAID{l.ID}
		}
	}
	for _, sa := range list {
		for _, next := range sa.Next {
			s.join(sa.ID, next)
		}
	}
	if s.eroutes, err = klips.ReadEroutes(ctx, stack); err != nil {
		return nil, fmt.Errorf("the list of eroutes: %w", err)
	}
	if s.devices, err = klips.ReadDevices(ctx, stack); err != nil {
		return nil, fmt.Errorf("the list of devices: %w", err)
	}
	return s, nil
}

// unreadSA returns the evidence that a line about an SA cannot be read, so that the use
// of the SA is unknown. Empty: there is no such line.
func (s *snapshot) unreadSA(id klips.SAID) string {
	for _, l := range s.unread {
		if l.ID == id || slices.ContainsFunc(strings.Fields(l.Text), func(word string) bool {
			return word == id.String() || strings.HasPrefix(word, id.String()+":") // a protocol follows
		}) {
			return unreadText(l)
		}
	}
	return ""
}

// unreadEroute does the same for a line with this source and destination.
func (s *snapshot) unreadEroute(sel klips.Selector) string {
	for _, l := range s.unread {
		f := strings.Fields(l.Text)
		if l.Table == "ipsec_eroute" && len(f) > 3 && f[1] == procfs.FlowEnd(sel.Src, sel.SrcPort) && f[3] == procfs.FlowEnd(sel.Dst, sel.DstPort) {
			return unreadText(l)
		}
	}
	return ""
}

func unreadText(l klips.UnreadLine) string {
	return fmt.Sprintf("line %d of %s, which names it, cannot be read", l.Number, l.Table)
}

// join merges the groups of two SAs.
func (s *snapshot) join(a, b klips.SAID) {
	if slices.Contains(s.groups[a], b) || s.groups[b] == nil {
		return
	}
	all := slices.Concat(s.groups[a], s.groups[b])
	for _, id := range all {
		s.groups[id] = all
	}
}

// eroute returns the eroute with exactly this selector.
func (s *snapshot) eroute(sel klips.Selector) (klips.Eroute, bool) {
	i := slices.IndexFunc(s.eroutes, func(e klips.Eroute) bool { return e.Selector == sel })
	if i < 0 {
		return klips.Eroute{}, false
	}
	return s.eroutes[i], true
}

// An object is a part of a connection: an SA or the eroute.
type object struct {
	name   string
	id     klips.SAID    // of an SA
	sa     *klips.SA     // the existing SA; nil: none
	eroute *klips.Eroute // the existing eroute, if the object is the eroute
	// other is the evidence that the existing object belongs to another connection or
	// to none; empty: it is the connection's own.
	other string
}

func (o object) there() bool { return o.sa != nil || o.eroute != nil }

func (o object) own() bool { return o.there() && o.other == "" }

// objects returns the parts of the connection as they exist on a stack: the SAs to the
// peer, the SAs from it, and the eroute.
//
// A SAID alone does not identify the owner of an SA: if two connections have the same
// SPI, the destination of both inbound SAs is this host. An SA is the connection's own
// if it has the connection's source, is grouped with no other SA, and is used for the
// connection's packets. The eroute or the inbound policy shows this use.
func (k *connection) objects(s *snapshot) []object {
	out := k.saObjects(s, 1-k.local)
	in := k.saObjects(s, k.local)
	// An inbound SA without a policy belongs to the owner of the outbound SAs.
	if i := slices.IndexFunc(out, func(o object) bool { return o.other != "" }); i >= 0 {
		for j := range in {
			if o := &in[j]; o.own() && !k.admitted(s, o.id) {
				o.other = out[i].name + " belongs to another connection, too"
			}
		}
	}
	e := object{name: "the eroute " + k.selector().String()}
	if why := s.unreadEroute(k.selector()); why != "" {
		e.eroute, e.other = &klips.Eroute{Selector: k.selector()}, why
	} else if live, ok := s.eroute(k.selector()); ok {
		e.eroute = &live
		if live.ID.String() != k.said().String() {
			e.other = "it leads to " + live.ID.String()
		}
	}
	return append(append(out, in...), e)
}

// saObjects returns the SAs that go to an end.
func (k *connection) saObjects(s *snapshot, to int) (list []object) {
	var ids []klips.SAID
	for _, sa := range k.sas(to) {
		ids = append(ids, sa.id)
	}
	for _, sa := range k.sas(to) {
		o := object{name: sa.id.String(), id: sa.id}
		if why := s.unreadSA(sa.id); why != "" {
			o.sa, o.other = &klips.SA{ID: sa.id}, why
		} else if live, ok := s.sas[sa.id]; ok {
			o.sa = &live
			o.other = k.otherSA(s, to, ids, &sa, &live)
		}
		list = append(list, o)
	}
	return list
}

// otherSA returns the evidence that an SA is not the connection's own; empty: it is.
// ids are the connection's SAs to the same end.
func (k *connection) otherSA(s *snapshot, to int, ids []klips.SAID, want *sa, live *klips.SA) string {
	if src := k.ends[1-to].addr; live.Src != src {
		return fmt.Sprintf("its source is %s, not %s", addrText(live.Src), klips.FormatAddr(src))
	}
	group := s.groups[live.ID]
	for _, id := range group {
		if !slices.Contains(ids, id) {
			return "it is grouped with " + id.String()
		}
		if why := s.unreadSA(id); why != "" {
			return "it is grouped with " + id.String() + ": " + why
		}
		for _, next := range s.sas[id].Next {
			if !next.Dst.IsValid() {
				return "it is linked to an SA that KLIPS has freed, so that it must not be deleted (ipsec spigrp)"
			}
		}
	}
	if to != k.local {
		used := ""
		for _, e := range s.eroutes {
			switch {
			case !slices.ContainsFunc(e.SAIDs(), func(id klips.SAID) bool { return slices.Contains(group, id) }):
			case e.Selector == k.selector():
				return ""
			case used == "":
				used = "the eroute " + e.Selector.String() + " leads to it"
			}
		}
		if used != "" {
			return used
		}
	}
	for _, id := range group {
		if p := s.sas[id].Policy; p != nil {
			if to == k.local && *p == k.policy() {
				return ""
			}
			return fmt.Sprintf("its inbound policy is %s -> %s", klips.FormatPrefix(p.Src), klips.FormatPrefix(p.Dst))
		}
	}
	// Nothing uses the SA. An interrupted call can have left it.
	if want.id.Proto != klips.ProtoTun && !want.is(live.Transform) {
		return "its algorithm is " + live.Transform.Name(live.ID.Proto)
	}
	return ""
}

// admitted reports whether the inbound policy of an SA's group proves that the SA is
// the connection's own.
func (k *connection) admitted(s *snapshot, id klips.SAID) bool {
	return slices.ContainsFunc(s.groups[id], func(id klips.SAID) bool {
		p := s.sas[id].Policy
		return p != nil && *p == k.policy()
	})
}

// policy returns the sources and destinations that the connection's inbound packets may
// have.
func (k *connection) policy() klips.InboundPolicy {
	me, peer := k.me(), k.peer()
	return klips.InboundPolicy{Src: peer.subnet, Dst: me.subnet, Proto: me.proto, SrcPort: peer.port, DstPort: me.port}
}

// is reports whether a transform is that of the SA.
func (s *sa) is(t klips.Transform) bool {
	var want klips.Transform
	var err error
	if s.id.Proto == klips.ProtoESP {
		want, _, err = syntax.ParseESP(s.alg)
	} else {
		want.Auth, err = syntax.ParseAH(s.alg)
	}
	return err == nil && want.Name(s.id.Proto) == t.Name(s.id.Proto)
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "not known"
	}
	return klips.FormatAddr(a)
}
