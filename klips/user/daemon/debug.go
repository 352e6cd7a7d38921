package daemon

import (
	"log/slog"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
)

// debug logs a message to or from a client, if klipsdebug has switched that on. It logs
// the header alone: requests contain keys.
func (s *server) debug(what string, c *client, h pfkey.Header) {
	if !s.eng.Debugging(klips.DebugPFKey) {
		return
	}
	attrs := []slog.Attr{
		slog.String("type", control.TypeName(h.Type)), slog.Int("satype", int(h.SAType)),
		slog.Uint64("seq", uint64(h.Seq)), slog.Int("pid", int(c.pid)),
	}
	if h.Errno != 0 {
		attrs = append(attrs, slog.String("errno", h.Errno.Error()))
	}
	s.eng.Log("pfkey", what, attrs...)
}

// everyArea switches on the areas of klipsdebug --all: all but verbose.
func everyArea() klips.DebugChange {
	c := klips.DebugChange{Set: true}
	for a := range c.Masks {
		if klips.DebugArea(a) != klips.DebugVerbose {
			c.Masks[a] = ^uint32(0)
		}
	}
	return c
}
