package output

import "github.com/klips-go/ipsec/klips"

// A line of a kernel's table that cannot be read. The object of the line is missing in
// the other lists. Only stack klips has such lines.
type UnreadLine struct {
	// The name of the table in /proc/net.
	Table string `json:"table"`
	// The number of the line, from 1.
	Line int `json:"line"`
	// The unchanged line.
	Text string `json:"text"`
	// Why it cannot be read.
	Reason string `json:"reason"`
	// The SAID at its beginning, if any.
	SAID string `json:"said,omitempty"`
}

// UnreadLines returns lines as records.
func UnreadLines(l []klips.UnreadLine) []UnreadLine { return each(l, newUnreadLine) }

func newUnreadLine(l *klips.UnreadLine) UnreadLine {
	return UnreadLine{l.Table, l.Number, l.Text, l.Reason, textOf(l.ID)}
}

// A security association with a wrong link to the next one of its group. Only stack
// klips has such links.
type LinkFault struct {
	// freed (the next one does not exist any more), shared (another one is linked to
	// the same one) or loop (it is in its own group twice).
	Kind string `json:"kind"`
	// The SAID.
	SAID string `json:"said"`
	// The SAID that it is linked to.
	Next string `json:"next"`
	// The SAID that is linked to the same one, if kind is shared.
	Other string `json:"other,omitempty"`
}

// LinkFaults returns faults as records.
func LinkFaults(l []klips.LinkFault) []LinkFault { return each(l, newLinkFault) }

func newLinkFault(f *klips.LinkFault) LinkFault {
	return LinkFault{string(f.Kind), f.SA.String(), f.Next.String(), textOf(f.Other)}
}

// textOf returns a SAID as text; empty for the zero SAID.
func textOf(id klips.SAID) string {
	if id == (klips.SAID{}) {
		return ""
	}
	return id.String()
}
