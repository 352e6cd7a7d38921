package output

import (
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/klips"
)

// Packets that are selected by their addresses, and optionally by protocol and ports.
type Flow struct {
	// The source network, with the length of its prefix: 10.1.0.0/16.
	Source netip.Prefix `json:"source"`
	// The destination network.
	Destination netip.Prefix `json:"destination"`
	// The number of the protocol. Left out for all protocols, or with a port for TCP and UDP.
	TransportProtocol uint8 `json:"transport_protocol,omitempty"`
	// The source port. Left out for all ports.
	SourcePort uint16 `json:"source_port,omitempty"`
	// The destination port. Left out for all ports.
	DestinationPort uint16 `json:"destination_port,omitempty"`
}

func newFlow(s klips.Selector) Flow {
	return Flow{s.Src, s.Dst, s.Proto, s.SrcPort, s.DstPort}
}

// An eroute: packets that go into a security association and its group, or for which a
// word is the action.
type Eroute struct {
	Flow
	// The action for the packets: protect (they go into the group that begins with the
	// security association), pass, drop, reject, hold, trap, trapsubnet, passthrough4
	// or passthrough6. See ipsec_eroute(8).
	Action string `json:"action"`
	// The SAID, in the form of the listings. It is a word such as %drop if action is
	// not protect.
	SAID string `json:"said"`
	// The SAIDs of further security associations over which the packets are spread.
	Also []string `json:"also,omitempty"`
	// The number of the security association. Left out if action is not protect.
	SPI uint32 `json:"spi,omitempty"`
	// Packets that it has taken.
	Packets uint64 `json:"packets"`
	// The process that made it, if known.
	PID int32 `json:"pid,omitempty"`
}

// Eroutes returns eroutes as records.
func Eroutes(l []klips.Eroute) []Eroute { return each(l, newEroute) }

func newEroute(e *klips.Eroute) Eroute {
	r := Eroute{Flow: newFlow(e.Selector), SAID: e.ID.String(), Also: texts(e.Also), Packets: e.Packets, PID: e.PID}
	var magic bool
	if r.Action, magic = strings.CutPrefix(r.SAID, "%"); !magic {
		r.Action, r.SPI = "protect", uint32(e.ID.SPI)
	}
	return r
}
