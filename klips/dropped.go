package klips

import (
	"net/netip"
	"time"
)

// A Dropped is the newest packet that was dropped for a reason. The addresses, the protocol
// and the ports are those of its outermost header that was left when it was dropped.
type Dropped struct {
	Reason   string     `json:"reason"` // a word of package drop
	Time     time.Time  `json:"time"`
	Inbound  bool       `json:"inbound,omitempty"`
	Device   string     `json:"device,omitempty"` // the virtual device; empty: none
	Src      netip.Addr `json:"src,omitzero"`     // not valid: the header could not be parsed
	Dst      netip.Addr `json:"dst,omitzero"`
	Proto    uint8      `json:"proto,omitempty"`
	SrcPort  uint16     `json:"sport,omitempty"`
	DstPort  uint16     `json:"dport,omitempty"`
	Length   int        `json:"length,omitempty"`   // bytes, with the IP header
	SPI      SPI        `json:"spi,omitempty"`      // of its ESP or AH header
	Sequence uint32     `json:"sequence,omitempty"` // in that header
	SA       SAID       `json:"said,omitzero"`      // the SA because of which it was dropped, if there is one
}

// KernelDrops is a counter of the kernel that is not zero.
type KernelDrops struct {
	Counter string // its name in /proc/net/xfrm_stat, such as XfrmInNoStates
	Reason  string // the reason as which Drops has it: a word of package drop
	Packets uint64
}
