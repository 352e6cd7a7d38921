package output

import (
	"net/netip"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// A reason for which packets were dropped.
type Why struct {
	// The reason as a word, see ipsec_look(8).
	Reason string `json:"reason"`
	// The number of packets since the stack started.
	Packets uint64 `json:"packets"`
	// The likely cause, in words.
	Cause string `json:"cause"`
	// The meaning of the reason, in words.
	Meaning string `json:"meaning,omitempty"`
	// The counters that have the packets, in words.
	Counted []string `json:"counted,omitempty"`
	// Commands that show more.
	See []string `json:"see,omitempty"`
	// What to do.
	Mend []string `json:"mend,omitempty"`
	// The newest of these packets.
	Last *DroppedPacket `json:"last,omitempty"`
}

// Something in which this end and the other one do not fit together.
type EndDifference struct {
	// The SAIDs, or the packets of an eroute, in words.
	What string `json:"what"`
	// How they differ, in words.
	Difference string `json:"difference"`
	// What to do.
	Mend string `json:"mend"`
}

// A packet that was dropped. Its addresses are those of the outermost header that was left.
type DroppedPacket struct {
	// The time, in the form of RFC 3339.
	Time time.Time `json:"time"`
	// Whether it arrived from the peer.
	Inbound bool `json:"inbound"`
	// The virtual device.
	Device string `json:"device,omitempty"`
	// The source address.
	Source netip.Addr `json:"source,omitzero"`
	// The destination address.
	Destination netip.Addr `json:"destination,omitzero"`
	// The number of its protocol.
	TransportProtocol uint8 `json:"transport_protocol,omitempty"`
	// Its source port.
	SourcePort uint16 `json:"source_port,omitempty"`
	// Its destination port.
	DestinationPort uint16 `json:"destination_port,omitempty"`
	// Its length with the IP header.
	LengthBytes int `json:"length_bytes,omitempty"`
	// The SPI in its ESP or AH header.
	SPI uint32 `json:"spi,omitempty"`
	// The sequence number in that header.
	SequenceNumber uint32 `json:"sequence_number,omitempty"`
	// The SAID of the security association because of which it was dropped.
	SAID string `json:"said,omitempty"`
}

// Dropped returns a packet as a record; nil if p is.
func Dropped(p *klips.Dropped) *DroppedPacket {
	if p == nil {
		return nil
	}
	d := &DroppedPacket{
		Time: p.Time, Inbound: p.Inbound, Device: p.Device, Source: p.Src, Destination: p.Dst, TransportProtocol: p.Proto,
		SourcePort: p.SrcPort, DestinationPort: p.DstPort, LengthBytes: p.Length, SPI: uint32(p.SPI), SequenceNumber: p.Sequence,
	}
	if p.SA.SPI != 0 {
		d.SAID = p.SA.String()
	}
	return d
}
