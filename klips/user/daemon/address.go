package daemon

import (
	"context"
	"net/netip"

	"github.com/klips-go/ipsec/klips"
)

// follow logs lost addresses of the host and calls Moved until ctx ends. The first call
// covers what happened before. The channel is closed after the last call.
func (s *server) follow(ctx context.Context, c *Config) <-chan struct{} {
	done := make(chan struct{})
	h, ok := c.Host.(interface {
		OnMoved(func(gone []netip.Addr))
	})
	if !ok {
		close(done)
		return done
	}
	moved := make(chan struct{}, 1)
	moved <- struct{}{}
	h.OnMoved(func(gone []netip.Addr) {
		if len(gone) > 0 {
			go s.addrsLost(gone)
		}
		select {
		case moved <- struct{}{}:
		default: // a call is pending already
		}
	})
	go func() {
		defer close(done)
		defer h.OnMoved(nil)
		for {
			select {
			case <-ctx.Done():
				return
			case <-moved:
				if c.Moved != nil {
					c.Moved(ctx)
				}
			}
		}
	}()
	return done
}

// addrsLost logs lost addresses of the host that SAs use. SAs of connections that
// follow the default route are made again, see [Config].Moved. For other SAs the daemon
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
