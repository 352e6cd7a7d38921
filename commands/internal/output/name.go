package output

import (
	"net/netip"

	"github.com/klips-go/ipsec/klips"
)

// The name of a security association, whole and in parts.
type Name struct {
	// The SAID, as listings have it: esp0x1234@192.0.2.1.
	SAID string `json:"said"`
	// The protocol: ah, esp, tun or comp.
	Protocol string `json:"protocol"`
	// The number of the security association. That of a comp SA is its CPI.
	SPI uint32 `json:"spi"`
	// The destination of its packets. Left out only if a KLIPS kernel has freed the
	// security association and still links to it.
	Destination netip.Addr `json:"destination,omitzero"`
}

func newName(id klips.SAID) Name {
	return Name{id.String(), id.Proto.String(), uint32(id.SPI), id.Dst}
}

// texts returns SAIDs as text.
func texts(ids []klips.SAID) []string {
	return each(ids, func(id *klips.SAID) string { return id.String() })
}
