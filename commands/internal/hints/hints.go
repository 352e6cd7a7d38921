// Package hints finds out, from the tables of a stack, why a packet is not the one that
// somebody wanted: which eroute or SA is almost right, and how they differ.
package hints

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
)

// Matches reports whether a selector selects a packet.
func Matches(s klips.Selector, f klips.Flow) bool { return Mismatch(s, f) == "" }

// Mismatch returns in words why a selector does not select a packet; empty: it does.
func Mismatch(s klips.Selector, f klips.Flow) string {
	ports := f.Proto == unix.IPPROTO_TCP || f.Proto == unix.IPPROTO_UDP
	switch {
	case s.Src.Addr().BitLen() != f.Src.BitLen():
		return "it is of the other family"
	case !s.Src.Contains(f.Src):
		return "its source is " + s.Src.String()
	case !s.Dst.Contains(f.Dst):
		return "its destination is " + s.Dst.String()
	case s.Proto != 0 && s.Proto != f.Proto:
		return fmt.Sprint("it is for protocol ", s.Proto)
	case s.SrcPort != 0 && (!ports || s.SrcPort != f.SrcPort):
		return fmt.Sprint("its source port is ", s.SrcPort)
	case s.DstPort != 0 && (!ports || s.DstPort != f.DstPort):
		return fmt.Sprint("its destination port is ", s.DstPort)
	}
	return ""
}

// Operands returns the operands of ipsec trace for a packet.
func Operands(f klips.Flow) string {
	text := fmt.Sprint(f.Src, " ", f.Dst, " ", f.Proto)
	if f.SrcPort != 0 || f.DstPort != 0 {
		text += fmt.Sprint(" ", f.SrcPort, " ", f.DstPort)
	}
	return text
}

// Back returns the packet that answers f.
func Back(f klips.Flow) klips.Flow {
	f.Src, f.Dst, f.SrcPort, f.DstPort = f.Dst, f.Src, f.DstPort, f.SrcPort
	return f
}

// Eroute returns what is wrong with the eroute that almost takes a packet, or the command
// that makes one.
func Eroute(t *klips.Snapshot, f klips.Flow) string {
	for _, e := range t.Eroutes {
		if Matches(e.Selector, Back(f)) {
			return fmt.Sprintf("the eroute %v takes the other direction: are its source and destination swapped?", e.Selector)
		}
	}
	for _, e := range t.Eroutes {
		if e.Dst.Contains(f.Dst) {
			return fmt.Sprintf("the eroute %v does not take it: %s", e.Selector, Mismatch(e.Selector, f))
		}
	}
	return fmt.Sprintf("ipsec eroute --add --src %v/%d --dst %v/%d --said SAID", f.Src, f.Src.BitLen(), f.Dst, f.Dst.BitLen())
}

// SA returns which SA is almost the one with a SAID, or the command that makes it.
func SA(t *klips.Snapshot, id klips.SAID) string {
	var other *klips.SA // another SA between the same ends
	for i := range t.SAs {
		switch sa := &t.SAs[i]; {
		case sa.ID.SPI == id.SPI && sa.ID.Dst == id.Dst:
			return fmt.Sprintf("there is %v, with another protocol", sa.ID)
		case sa.ID.SPI == id.SPI && sa.ID.Proto == id.Proto && sa.ID.Dst.Is4() == id.Dst.Is4() && !sa.Used:
			return fmt.Sprintf("there is %v, with another destination: the destination of an SA is the end that receives its packets; behind a NAT it is the address that this end has itself", sa.ID)
		case sa.ID.Dst == id.Dst && sa.ID.Proto == id.Proto && (other == nil || other.Used && !sa.Used): // rather one that nothing uses
			other = sa
		}
	}
	if other != nil {
		return fmt.Sprintf("there is %v, with another SPI: is it the one that is meant?", other.ID)
	}
	return "ipsec spi --said " + id.String() + " … makes it, with the keys of the other end"
}

// Policy returns what is wrong with the inbound policy of an SA for a packet.
func Policy(id klips.SAID, p klips.InboundPolicy, f klips.Flow) string {
	if Matches(p, Back(f)) {
		return fmt.Sprintf("the inbound policy of %v is %v: are its source, the peer's side, and its destination swapped?", id, p)
	}
	return fmt.Sprintf("the inbound policy of %v is %v: %s", id, p, Mismatch(p, f))
}

// Detached returns why a virtual device has no physical device, and what helps.
func Detached(d klips.Device) (why, mend string) {
	if d.Awaits != "" {
		return fmt.Sprintf("%s waits for %s, which is down or gone; it is attached again when %s is up", d.Name, d.Awaits, d.Awaits),
			"ip link set " + d.Awaits + " up"
	}
	return d.Name + " is attached to no physical device",
		"ipsec tncfg --attach --virtual " + d.Name + " --physical DEVICE, the one that leads to the peer"
}

// Meaning returns a word of package drop in words; the word itself, if it is of a later
// version.
func Meaning(word string) string {
	if r, ok := drop.Parse(word); ok {
		return r.Meaning()
	}
	return word
}
