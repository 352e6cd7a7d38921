// Package overhead computes how long packets become in a group of SAs: the arithmetic of the
// packet path and of the commands that explain it. IPComp never makes a packet longer, and a
// packet that does not shrink stays as it is (RFC 3173 section 2.2), so it adds nothing here.
package overhead

import (
	"sort"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/ipip"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// A Growth is how much an SA adds to packets, if nothing can be compressed. The zero value
// adds nothing.
type Growth struct {
	proto  klips.Proto
	esp    esp.Size
	ah     ah.Size
	header int   // length of a tunnel header in bytes
	outer  uint8 // IP version of that header
	udp    int
}

// Of returns how much an SA adds. align8 is that of [klips.SASpec].
func Of(id klips.SAID, t klips.Transform, n klips.NATTType, align8 bool) (g Growth) {
	switch g.proto = id.Proto; g.proto {
	case klips.ProtoTun:
		g.header, g.outer = ipip.Overhead(id.Dst), 4
		if id.Dst.Is6() {
			g.outer = 6
		}
	case klips.ProtoESP:
		g.esp, g.udp = esp.SizeOf(t), udpencap.Overhead(n)
	case klips.ProtoAH:
		g.ah = ah.SizeOf(t.Auth, align8)
	}
	return g
}

// OfSA returns how much a listed SA adds.
func OfSA(sa *klips.SA) Growth { return Of(sa.ID, sa.Transform, sa.NATT.Type, sa.Align8) }

// A Packet has the lengths of a packet on which the growth depends, in bytes.
type Packet struct {
	Version uint8
	Header  int // of its IP header, with the extension headers that stay before ESP or AH
	Total   int
}

// Plain returns a packet of an IP version without options or extension headers.
func Plain(version uint8, total int) Packet {
	if version == 6 {
		return Packet{6, 40, total}
	}
	return Packet{4, 20, total}
}

// A Sum adds the SAs of a group, in processing order.
type Sum struct {
	Packet // as it is after the SAs so far, without UDP
	// Front and Behind are the bytes before and after the payload. A UDP header counts as
	// after it, as in KLIPS.
	Front, Behind int
	udp           bool
}

// Add adds an SA, and returns what it adds. One UDP header counts: that of the first SA that
// has one. It is not in behind.
func (s *Sum) Add(g *Growth) (front, behind, udp int) {
	front, behind = g.add(s.Packet)
	if g.proto == klips.ProtoTun {
		// The old header is now payload, and the added header is the header.
		s.Version, s.Header = g.outer, front
	}
	if g.udp > 0 && !s.udp {
		s.udp, udp = true, g.udp
	}
	s.Front, s.Behind, s.Total = s.Front+front, s.Behind+behind+udp, s.Total+front+behind
	return front, behind, udp
}

// add returns what the SA adds to a packet, without UDP.
func (g *Growth) add(p Packet) (front, behind int) {
	switch g.proto {
	case klips.ProtoTun:
		return g.header, 0
	case klips.ProtoESP:
		return g.esp.Overhead(p.Total - p.Header)
	case klips.ProtoAH:
		return g.ah.Overhead(p.Version), 0
	}
	return 0, 0
}

// Longest returns the length of the longest packet with the version and header of p that
// becomes at most limit bytes long; added returns what is added to a packet. All shorter
// packets fit, too. It is never shorter than the header.
func Longest(p Packet, limit int, added func(Packet) int) int {
	more := sort.Search(limit, func(n int) bool {
		p.Total = p.Header + n
		return p.Total+added(p) > limit
	})
	return p.Header + more - 1
}

// LongestIn returns the same as [Longest] for a group of SAs in processing order.
func LongestIn(p Packet, limit int, group []Growth) int {
	return Longest(p, limit, func(p Packet) int {
		s := Sum{Packet: p}
		for i := range group {
			s.Add(&group[i])
		}
		return s.Front + s.Behind
	})
}
