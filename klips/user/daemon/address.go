package daemon

import (
	"context"
	"net/netip"

	"github.com/klips-go/ipsec/klips"
)

// watchAddrs logs when the host loses an address that SAs have.
func (s *server) watchAddrs(c *Config) {
	if h, ok := c.Host.(interface {
		OnMoved(func(gone []netip.Addr))
	}); ok {
		h.OnMoved(func(gone []netip.Addr) {
			if len(gone) > 0 {
				go s.addrsLost(gone)
			}
		})
	}
}

// addrsLost logs lost addresses of the host that SAs use. SAs of connections that
// follow the default route are made again (ipsec_manual(8)). For other SAs the daemon
// knows neither the connection nor the peer's side.
func (s *server) addrsLost(gone []netip.Addr) {
	sas, err := s.eng.SAs(context.Background())
	if err != nil {
		return
	}
	for _, a := range gone {
		n := 0
		for i := range sas {
			if ownEnd(&sas[i]) == a {
				n++
			}
		}
		if n > 0 {
			s.log.Warn("an address of this host is gone, and SAs have it; bring their connections down and up again", "address", a, "sas", n)
		}
	}
}

// ownEnd returns the address of an SA that is the host's own.
func ownEnd(sa *klips.SA) netip.Addr {
	if sa.Dir == klips.Inbound {
		return sa.ID.Dst
	}
	return sa.Src
}
