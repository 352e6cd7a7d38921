package daemon

import (
	"context"
	"net/netip"

	"github.com/klips-go/ipsec/klips"
)

// addrsLost writes into the log which addresses are the host's own no more and stand in
// SAs. The daemon cannot make those again: it does not know from which connections they
// were made, nor what the peer does.
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
