package ends

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
)

// Compare returns how two ends do not fit together: SAs that one of them lacks, keys,
// algorithms, groups, sequence numbers, addresses, eroutes and inbound policies. Objects that
// have nothing to do with the other end are left out.
func Compare(here, there *output.Barf) []output.EndDifference {
	there = translate(here, there)
	c := &comparison{here: newEnd(here, "here"), there: newEnd(there, "there"), inUDP: inUDP(here)}
	for i := range here.SAs {
		c.ofHere(&here.SAs[i])
	}
	for i := range there.SAs {
		c.ofThere(&there.SAs[i])
	}
	c.groups()
	c.eroutes(c.here, c.there)
	c.eroutes(c.there, c.here)
	return c.list
}

type comparison struct {
	here, there end
	inUDP       map[string]bool // the SAs that a NAT can give other addresses
	list        []output.EndDifference
}

// An end is one of the two hosts.
type end struct {
	*output.Barf
	name string                // here or there
	sas  map[string]*output.SA // by SAID
}

func newEnd(b *output.Barf, name string) end { return end{b, name, index(b)} }

func (c *comparison) add(what, mend, format string, args ...any) {
	c.list = append(c.list, output.EndDifference{What: what, Difference: fmt.Sprintf(format, args...), Mend: mend})
}

// index returns the SAs by SAID. If there are several with one, it is the first.
func index(b *output.Barf) map[string]*output.SA {
	sas := make(map[string]*output.SA, len(b.SAs))
	for i := range b.SAs {
		if sa := &b.SAs[i]; sas[sa.SAID] == nil {
			sas[sa.SAID] = sa
		}
	}
	return sas
}

// concerns reports whether an SA of one end is for packets between both: its destination is
// an address of the other one, or its source is.
func concerns(sa *output.SA, other end) bool {
	return slices.Contains(other.Addresses, sa.Destination) || slices.Contains(other.Addresses, sa.Source)
}

// ofHere compares an SA of this end with that of the other one.
func (c *comparison) ofHere(sa *output.SA) {
	other := c.there.sas[sa.SAID]
	if other == nil {
		if concerns(sa, c.there) {
			c.missing(sa, c.here, c.there)
		}
		return
	}
	sender, receiver, sends := sa, other, "here"
	if sa.Direction == "in" {
		sender, receiver, sends = other, sa, "there"
	}
	if sa.Direction == other.Direction && sa.Direction != "both" {
		c.add(sa.SAID, "the destination of an SA is an address of the end that receives its packets", "both ends take it for an SA to %s", map[string]string{"in": "receive", "out": "send"}[sa.Direction])
		return
	}
	const same = "make the SA with the same values on both ends"
	if sa.Transform != other.Transform {
		c.add(sa.SAID, same, "the algorithms are %s here and %s there", sa.Transform, other.Transform)
	} else if sa.EncryptionKeyBits != other.EncryptionKeyBits {
		c.add(sa.SAID, same, "the encryption key has %d bits here and %d there", sa.EncryptionKeyBits, other.EncryptionKeyBits)
	}
	for _, use := range [...]string{"encryption", "authentication"} {
		a, b := fingerprint(c.here, sa.SAID, use), fingerprint(c.there, sa.SAID, use)
		if a != "" && b != "" && a != b {
			c.add(sa.SAID, "give the SA one key on both ends", "the %s keys differ: their checks are %s here and %s there", use, a, b)
		}
	}
	if sa.ExtendedSequenceNumbers != other.ExtendedSequenceNumbers {
		c.add(sa.SAID, "use --esn on both ends or on none", "one end has sequence numbers of 64 bits, the other one of 32")
	}
	if (sa.UDPEncapsulation == nil) != (other.UDPEncapsulation == nil) {
		c.add(sa.SAID, "use --natt on both ends or on none", "one end encapsulates in UDP, the other one does not")
	}
	if set(sender.Source) && set(receiver.Source) && sender.Source != receiver.Source && !c.inUDP[sa.SAID] {
		c.add(sa.SAID, same, "the source is %v here and %v there", sa.Source, other.Source)
	}
	c.numbers(sender, receiver, sends)
}

// numbers compares the sequence numbers of the two ends of an SA. The ends were not read at
// the same time, so the receiver may be behind or a little ahead.
func (c *comparison) numbers(sender, receiver *output.SA, sends string) {
	const slack = 1 << 16
	if receiver.SequenceNumber > sender.SequenceNumber+slack {
		c.add(sender.SAID, "new keys on both ends: ipsec rekey NAME", "the end that sends (%s) has begun again with its numbers: it is at %d, and the other one has received up to %d, so it refuses the packets",
			sends, sender.SequenceNumber, receiver.SequenceNumber)
	}
	if receiver.ReplayWindowPackets == 0 && (receiver.Protocol == "esp" && receiver.Authentication != "" || receiver.Protocol == "ah") {
		c.add(receiver.SAID, "--replay_window 64 on the end that receives", "the end that receives has no replay window: it takes recorded packets again")
	}
}

// ofThere finds SAs that only the other end has.
func (c *comparison) ofThere(sa *output.SA) {
	if c.here.sas[sa.SAID] == nil && concerns(sa, c.here) {
		c.missing(sa, c.there, c.here)
	}
}

// missing adds that an end lacks an SA of the other one, and which one it has that is almost
// the same.
func (c *comparison) missing(sa *output.SA, of, in end) {
	mend := "make it " + in.name + " with the keys of the other end"
	for i := range in.SAs {
		o := &in.SAs[i]
		switch {
		case o.Protocol != sa.Protocol || of.sas[o.SAID] != nil: // an SA that both have is not a wrong one
		case o.SPI == sa.SPI:
			mend = fmt.Sprintf("there is %s %s: its destination is another one", o.SAID, in.name)
		case o.Destination == sa.Destination:
			mend = fmt.Sprintf("there is %s %s: its SPI is another one", o.SAID, in.name)
		}
	}
	c.add(sa.SAID, mend, "it exists %s and not %s", of.name, in.name)
}

// groups compares the groups that both ends have, by the SA that is on both.
func (c *comparison) groups() {
	var those [][]string
	for _, g := range c.there.Groups {
		those = append(those, said(g))
	}
	for _, g := range c.here.Groups {
		mine := said(g)
		for i, o := range c.there.Groups {
			theirs := those[i]
			if g.Direction != o.Direction && g.Direction != "both" {
				theirs = slices.Clone(theirs)
				slices.Reverse(theirs) // one end lists the order of sending, the other that of receiving
			}
			if slices.Equal(mine, theirs) || !slices.ContainsFunc(mine, func(id string) bool { return slices.Contains(theirs, id) }) {
				continue
			}
			c.add(strings.Join(mine, " "), "ipsec spigrp with the same SAs in the same order on both ends", "the group there is %s, in the same order of sending", strings.Join(theirs, " "))
		}
	}
}

// said returns the SAIDs of a group.
func said(g output.Group) (l []string) {
	for _, m := range g.Members {
		l = append(l, m.SAID)
	}
	return l
}

// eroutes compares the eroutes of an end with the inbound policies of the other one.
func (c *comparison) eroutes(from, to end) {
	for _, e := range from.Eroutes {
		if e.Action != "protect" {
			continue
		}
		sa := to.sas[e.SAID]
		if sa == nil || sa.InboundPolicy == nil {
			continue
		}
		if p := sa.InboundPolicy; !within(e.Flow, *p) {
			c.add(text(e.Flow), "ipsec eroute --replacein --src "+e.Source.String()+" --dst "+e.Destination.String()+" --said "+e.SAID+" "+to.name,
				"the eroute %s is to %s, and the inbound policy of that %s is %s", from.name, e.SAID, to.name, text(*p))
		}
	}
}

// within reports whether all packets of a flow are also of another one.
func within(f, p output.Flow) bool {
	return selector(f).Within(selector(p))
}

// selector returns a flow as a selector.
func selector(f output.Flow) klips.Selector {
	return klips.Selector{Src: f.Source, Dst: f.Destination, Proto: f.TransportProtocol, SrcPort: f.SourcePort, DstPort: f.DestinationPort}
}

// text returns a flow in words.
func text(f output.Flow) string {
	s := fmt.Sprintf("%v -> %v", f.Source, f.Destination)
	if f.TransportProtocol != 0 {
		s += fmt.Sprint(" proto ", f.TransportProtocol)
	}
	if f.SourcePort != 0 || f.DestinationPort != 0 {
		s += fmt.Sprintf(" ports %d to %d", f.SourcePort, f.DestinationPort)
	}
	return s
}

// set reports whether an address is given, and not any.
func set(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }

// fingerprint returns the check of a key; empty if it is not known.
func fingerprint(b end, said, use string) string {
	for _, k := range b.KeyFingerprints {
		if k.SAID == said && k.Use == use {
			return k.Fingerprint
		}
	}
	return ""
}
