package klips

import "slices"

// A LinkFault is a fault in the link from an SA to the next one of its group. Only the
// tables of a classic KLIPS kernel have such faults: it frees SAs that others are still
// linked to, and links two SAs to the same one.
type LinkFault struct {
	Kind LinkFaultKind
	SA   SAID
	// Next is the SA that SA is linked to.
	Next SAID
	// Other is the other SA that is linked to Next, for LinkShared; else zero.
	Other SAID
}

// A LinkFaultKind is the kind of a [LinkFault].
type LinkFaultKind string

// The faults of links.
const (
	// LinkFreed: Next has been freed. The next new SA gets its memory, and then packets
	// through SA leave with that SA's SPI and key.
	LinkFreed LinkFaultKind = "freed"
	// LinkShared: SA and Other are linked to the same SA. If one of them is removed,
	// Next is freed with it, and the other one is linked to freed memory.
	LinkShared LinkFaultKind = "shared"
	// LinkLoop: SA is in its own group twice, so that packets never reach its end.
	LinkLoop LinkFaultKind = "loop"
)

// CheckLinks returns the faults in the links of SAs, in their order. Each link is
// reported once, at the SA where it begins. A next SA that is not among sas is not a
// fault: a kernel's tables may change while they are read.
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
