package klips

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// lookupTimeout bounds one name lookup of SystemResolver.
const lookupTimeout = 5 * time.Second

// SystemResolver looks names up in /etc/hosts and the DNS without C library,
// and gives up after a few seconds. It is a [Resolver].
func SystemResolver(name string, f Family) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	r := net.Resolver{PreferGo: true}
	network := "ip"
	switch f {
	case Family4:
		network = "ip4"
	case Family6:
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
		// The system's words name sockets, and repeat the name.
		return netip.Addr{}, errors.New("no name server can be reached")
	}
	return pickAddr(addrs, f)
}

// pickAddr returns the first address of the wanted family, IPv6 before IPv4
// where either will do.
func pickAddr(addrs []netip.Addr, f Family) (netip.Addr, error) {
	for _, want := range [...]Family{Family6, Family4} {
		if f != FamilyAny && f != want {
			continue
		}
		for _, a := range addrs {
			if a = a.Unmap().WithZone(""); FamilyOf(a) == want {
				return a, nil
			}
		}
	}
	return netip.Addr{}, errors.New("no such host")
}
