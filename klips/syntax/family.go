package syntax

import "net/netip"

// A Family is an address family on command lines.
type Family uint8

// The families. FamilyAny means: the text determines it.
const (
	FamilyAny Family = iota
	Family4          // inet
	Family6          // inet6
)

// String returns "inet" or "inet6", or "any".
func (f Family) String() string {
	switch f {
	case Family4:
		return "inet"
	case Family6:
		return "inet6"
	}
	return "any"
}

// FamilyOf returns the family of an address; FamilyAny for the invalid one.
func FamilyOf(a netip.Addr) Family {
	switch {
	case a.Is4():
		return Family4
	case a.IsValid():
		return Family6
	}
	return FamilyAny
}

// A Resolver looks up a host name for one family; FamilyAny asks for IPv6 first
// and then for IPv4. The first address of the answer counts.
type Resolver func(name string, f Family) (netip.Addr, error)
