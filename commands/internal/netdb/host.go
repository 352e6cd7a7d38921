package netdb

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/klips-go/ipsec/klips/syntax"
)

// lookupTimeout limits one name lookup of Host.
const lookupTimeout = 5 * time.Second

// Host looks a host name up in /etc/hosts and the DNS, without the C library. It gives
// up after a few seconds. It is a [syntax.Resolver].
func Host(name string, f syntax.Family) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	r := net.Resolver{PreferGo: true}
	network := "ip"
	switch f {
	case syntax.Family4:
		network = "ip4"
	case syntax.Family6:
		network = "ip6"
	}
	addrs, err := r.LookupNetIP(ctx, network, name)
	if err != nil {
		var dns *net.DNSError
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return netip.Addr{}, errors.New("no answer in time")
		case errors.As(err, &dns) && dns.IsNotFound:
			return netip.Addr{}, errors.New("no such host")
		}
		// The system's error names sockets, and repeats the name.
		return netip.Addr{}, errors.New("no name server can be reached")
	}
	return pickAddr(addrs, f)
}

// pickAddr returns the first address of the wanted family. If both families are
// allowed, it prefers IPv6.
func pickAddr(addrs []netip.Addr, f syntax.Family) (netip.Addr, error) {
	for _, want := range [...]syntax.Family{syntax.Family6, syntax.Family4} {
		if f != syntax.FamilyAny && f != want {
			continue
		}
		for _, a := range addrs {
			if a = a.Unmap().WithZone(""); syntax.FamilyOf(a) == want {
				return a, nil
			}
		}
	}
	return netip.Addr{}, errors.New("no such host")
}
