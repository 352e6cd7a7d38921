package klips

import "slices"

// A LinkFault is what is wrong with how an SA is linked to the next one of its
// group. Only the tables of a classic KLIPS kernel show such: it frees SAs that
// others are still linked to, and links two SAs to the same one.
type LinkFault struct {
	Kind LinkFaultKind
	SA   SAID
	// Next is what SA is linked to.
	Next SAID
	// Other is the other SA that is linked to Next, for LinkShared; else zero.
	Other SAID
}

// A LinkFaultKind says what is wrong with a link, in a word.
type LinkFaultKind string

// The faults of links.
const (
	// LinkFreed: Next is not an SA any more; its memory is free. The next SA that is
	// made gets it, and packets through SA leave with that one's SPI and key.
	LinkFreed LinkFaultKind = "freed"
	// LinkShared: SA and Other are linked to the same SA. Where one of them goes,
	// Next goes with it, and the other one is linked to freed memory.
	LinkShared LinkFaultKind = "shared"
	// LinkLoop: SA is in its own group twice, so that no packet comes to the end of
	// it.
	LinkLoop LinkFaultKind = "loop"
)

// CheckLinks returns what is wrong with the links of SAs, in their order. Each link
// is named once, with the SA that it begins at. An SA that follows but is not among
// sas is no fault: a kernel's tables may change while they are read.
func CheckLinks(sas []SA) []LinkFault {
	var faults []LinkFault
	before := make(map[SAID]SAID, len(sas)) // the first SA that is linked to another
	for i := range sas {
		sa := &sas[i]
		if len(sa.Next) == 0 {
			continue
		}
		next := sa.Next[0]
		other, shared := before[next]
		switch {
		case !next.Dst.IsValid():
			faults = append(faults, LinkFault{Kind: LinkFreed, SA: sa.ID, Next: next})
			continue
		case shared && other != sa.ID:
			faults = append(faults, LinkFault{Kind: LinkShared, SA: sa.ID, Next: next, Other: other})
		default:
			before[next] = sa.ID
		}
		if slices.Contains(sa.Next, sa.ID) {
			faults = append(faults, LinkFault{Kind: LinkLoop, SA: sa.ID, Next: next})
		}
	}
	return faults
}
