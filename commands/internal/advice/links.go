package advice

import (
	"fmt"

	"github.com/klips-go/ipsec/klips"
)

// links returns notes about the links of a group that a command has used.
func links(group []klips.SA) (notes []string) {
	for _, f := range klips.CheckLinks(group) {
		notes = append(notes, Link(f))
	}
	return notes
}

// Link returns the note about an SA whose link to the next SA of its group is wrong.
func Link(f klips.LinkFault) string {
	switch f.Kind {
	case klips.LinkFreed:
		return fmt.Sprintf("%v is linked to an SA that KLIPS has freed (%v); packets through it can leave under the SPI and key of another SA: "+
			"remove the eroutes that lead to it (ipsec eroute --del), and restart the machine",
			f.SA, f.Next)
	case klips.LinkShared:
		return fmt.Sprintf("%v and %v are both linked to %v; when one of them is deleted, %v goes with it, and the other is linked to freed memory: "+
			"take the group of each apart (ipsec spigrp)",
			f.Other, f.SA, f.Next, f.Next)
	case klips.LinkLoop:
		return fmt.Sprintf("%v is in its group twice, so that its packets go round in it; remove the eroutes that lead to it (ipsec eroute --del), and restart the machine", f.SA)
	}
	return fmt.Sprintf("%v is linked wrongly to %v", f.SA, f.Next)
}

// Mark returns the note about an SA that has refused packets up to the highest number
// that an earlier SA with its key has received; "" for other SAs.
func Mark(sa klips.SA) string {
	if sa.BelowMark == 0 {
		return ""
	}
	return fmt.Sprintf("%v has refused %d packets whose sequence numbers an earlier SA with this key has received; if the peer has started again, make the SA again with --replay-seq 0, or better with a new key at both ends",
		sa.ID, sa.BelowMark)
}

// Bytes returns the note about an SA whose count of bytes is below zero; "" for other
// SAs.
func Bytes(sa klips.SA) string {
	b := sa.Life.Bytes
	if b.Below == 0 {
		return ""
	}
	return fmt.Sprintf("the bytes of %v are counted wrongly: KLIPS has taken away %d more than it has added, and shows %d", sa.ID, b.Below, b.Raw())
}
