package output

import (
	"io"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// Something that has happened.
type Event struct {
	// The time, in the form of RFC 3339.
	Time time.Time `json:"time"`
	// What has happened: one of the words of ipsec_monitor(8).
	Event string `json:"event"`
	// The SAID of the security association.
	SAID string `json:"said,omitempty"`
	// The packets of the eroute, of the inbound policy, or for which an SA is needed.
	Flow *Flow `json:"flow,omitempty"`
	// The SAID that an eroute has as its target, or a word such as %drop.
	Target string `json:"target,omitempty"`
	// The virtual device.
	Device string `json:"device,omitempty"`
	// Its physical device.
	Physical string `json:"physical,omitempty"`
	// The reason for which packets were dropped, see ipsec_look(8).
	Reason string `json:"reason,omitempty"`
	// The number of packets that were dropped since the reading before.
	Packets uint64 `json:"packets,omitempty"`
	// The sequence number of a security association that has used three quarters of all.
	SequenceNumber uint64 `json:"sequence_number,omitempty"`
	// The old address and port of a peer.
	From string `json:"from,omitempty"`
	// Its new address and port.
	To string `json:"to,omitempty"`
	// Whether it was found by comparing two readings, and not by a message of the stack.
	Polled bool `json:"polled"`
}

// NewFlow returns a selector as a record.
func NewFlow(s klips.Selector) *Flow {
	f := newFlow(s)
	return &f
}

// PrintLine prints a list as one line.
func PrintLine(w io.Writer, l List) error { return encoder(w).Encode(l) }
