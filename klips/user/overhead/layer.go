package overhead

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/esp"
)

// A Layer is what one SA adds to one packet, in parts, in bytes.
type Layer struct {
	UDP     int // of UDP encapsulation, with its marker
	Header  int // of IP, ESP or AH; that of AH with its ICV and the padding of that
	IV      int
	Padding int // to the block of the cipher
	Trailer int // pad length and next header
	ICV     int // of ESP
}

// Total returns all bytes of the layer.
func (l Layer) Total() int { return l.UDP + l.Header + l.IV + l.Padding + l.Trailer + l.ICV }

// Layers returns what each SA of a group adds to a packet, in processing order, and how long
// the packet becomes.
func Layers(p Packet, group []Growth) (layers []Layer, total int) {
	s := Sum{Packet: p}
	for i := range group {
		g := &group[i]
		front, behind, udp := s.Add(g)
		l := Layer{UDP: udp, Header: front}
		if g.proto == klips.ProtoESP {
			l.Header, l.IV = esp.HeaderLen, front-esp.HeaderLen
			l.Trailer, l.ICV = esp.TrailerLen, g.esp.ICV()
			l.Padding = behind - l.Trailer - l.ICV
		}
		layers = append(layers, l)
	}
	return layers, p.Total + s.Front + s.Behind
}
