package capture

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A view is what can be seen of a packet without its keys.
type view struct {
	headers []header // the IP headers, the outermost first; none: it is no valid IP packet
	layers  []layer  // ESP, AH and IPComp, the outermost first
}

// A header is an IP header.
type header struct {
	src, dst         netip.Addr
	proto            uint8 // of what follows the extension headers
	upper            uint8 // of what follows AH, or a UDP header before ESP; else proto
	srcPort, dstPort uint16
	length           int  // bytes, with this header
	fragment         bool // a part of a packet that its sender or a router has cut
}

// A layer is a header that names an SA.
type layer struct {
	id     klips.SAID
	number uint32 // the sequence number; of IPComp, 0
}

// maxHeaders is how many IP headers and layers of a packet are looked at.
const maxHeaders = 8

// look returns what can be seen of a packet. ports are the UDP ports in host order that may
// carry ESP.
func look(p []byte, ports []uint16) (v view) {
	for len(v.headers)+len(v.layers) < maxHeaders {
		h, ok := packet.ParseIP(p)
		if !ok {
			return v
		}
		v.headers = append(v.headers, header{src: h.Src, dst: h.Dst, proto: h.Proto, upper: h.Proto, length: h.Total, fragment: h.Frag})
		if h.FragOff != 0 {
			return v // the headers are in the first fragment
		}
		proto, body := h.Proto, p[h.Len:h.Total]
		for proto == packet.ProtoAH && len(body) >= 12 && len(v.layers) < maxHeaders {
			v.add(klips.ProtoAH, klips.SPI(binary.BigEndian.Uint32(body[4:])), binary.BigEndian.Uint32(body[8:]))
			length := (int(body[1]) + 2) * 4 // RFC 4302 section 2.2
			if length < 12 || length > len(body) {
				return v
			}
			proto, body = body[0], body[length:]
			v.headers[len(v.headers)-1].upper = proto
		}
		switch proto {
		case packet.ProtoTCP, packet.ProtoUDP:
			v.transport(proto, body, ports)
			return v
		case packet.ProtoESP:
			v.esp(body)
			return v
		case packet.ProtoComp:
			if len(body) >= 4 { // RFC 3173 section 3.1
				v.add(klips.ProtoComp, klips.SPI(binary.BigEndian.Uint16(body[2:])), 0)
			}
			return v
		case packet.ProtoIPIP, packet.ProtoIPv6:
			p = body
		default:
			return v
		}
	}
	return v
}

// add adds a layer to the innermost header.
func (v *view) add(proto klips.Proto, spi klips.SPI, number uint32) {
	dst := v.headers[len(v.headers)-1].dst
	v.layers = append(v.layers, layer{klips.SAID{Dst: dst, SPI: spi, Proto: proto}, number})
}

// esp adds the header of ESP (RFC 4303 section 2).
func (v *view) esp(b []byte) {
	if len(b) >= 8 {
		v.headers[len(v.headers)-1].upper = packet.ProtoESP
		v.add(klips.ProtoESP, klips.SPI(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:]))
	}
}

// transport reads the ports of TCP or UDP, and ESP in UDP.
func (v *view) transport(proto uint8, b []byte, ports []uint16) {
	if len(b) < 8 {
		return
	}
	h := &v.headers[len(v.headers)-1]
	h.srcPort, h.dstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if proto != packet.ProtoUDP || !slices.Contains(ports, h.srcPort) && !slices.Contains(ports, h.dstPort) {
		return
	}
	b = b[8:]
	switch {
	case len(b) < 8: // a keepalive (RFC 3948 section 2.3), or less
	case binary.BigEndian.Uint64(b) == 0: // draft-ietf-ipsec-udp-encaps-02 section 2.1: ESP after 8 zero bytes
		v.esp(b[8:])
	case binary.BigEndian.Uint32(b) != 0 && h.srcPort != portIKE && h.dstPort != portIKE: // RFC 3948 section 2.2: 4 zero bytes begin IKE
		v.esp(b)
	}
}

// portIKE is the port of IKE without a marker. Its packets begin with a cookie, which looks
// like an SPI.
const portIKE = 500

// portESP is the usual port of ESP in UDP (RFC 3948 section 2.1).
const portESP = 4500
