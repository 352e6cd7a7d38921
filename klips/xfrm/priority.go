package xfrm

import "github.com/klips-go/ipsec/klips"

// The range of eroutes' priorities; those of inbound policies are below.
const (
	minPriority = 1 << 21
	maxPriority = 1 << 31
)

// priority returns the priority of an eroute's policy: the kernel takes the lowest, and of
// equal ones the older.
func priority(s klips.Selector) uint32 { return maxPriority - 1 - s.Rank() }
