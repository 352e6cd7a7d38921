package engine

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Bits of the mask of klips.DebugTunnel that have names of their own.
const (
	debugXmit  = 0x10
	debugTncfg = 0x100
)

// linesPerSecond limits the debug log. The last line of a second reports that lines are
// left out.
const linesPerSecond = 100

// trace is the debug log: a line for each decision in the areas that klipsdebug has
// switched on. It never contains a key or the content of packets. While nothing is
// switched on, the packet path only reads one word for each batch.
type trace struct {
	log   *slog.Logger // nil: there is none
	clock clock.Clock
	masks [klips.NumDebugAreas]atomic.Uint32
	any   atomic.Bool // a mask for lines about packets is not zero

	mu     sync.Mutex // guards the fields below
	second int64
	lines  int
}

// packetAreas are the areas with lines about packets.
var packetAreas = [...]klips.DebugArea{
	klips.DebugTunnel, klips.DebugXform, klips.DebugRadij,
	klips.DebugESP, klips.DebugAH, klips.DebugRcv, klips.DebugIPComp,
}

// set changes masks. Only one goroutine at a time may call it.
func (t *trace) set(c klips.DebugChange) {
	for i, m := range c.Masks {
		if c.Set {
			t.masks[i].Or(m)
		} else {
			t.masks[i].And(m)
		}
	}
	any := false
	for _, a := range packetAreas {
		any = any || t.masks[a].Load() != 0
	}
	t.any.Store(any)
}

func (t *trace) get() (d klips.Debug) {
	for i := range d {
		d[i] = t.masks[i].Load()
	}
	return d
}

// on reports whether any of these bits of an area is switched on.
func (t *trace) on(a klips.DebugArea, bits uint32) bool {
	return t.log != nil && t.masks[a].Load()&bits != 0
}

// line writes a line, unless this second has had too many.
func (t *trace) line(area, msg string, attrs ...slog.Attr) {
	left := t.take()
	if left < 0 {
		return
	}
	if left == 0 {
		attrs, msg = nil, "more lines in this second are left out"
	}
	attrs = append([]slog.Attr{slog.String("area", area)}, attrs...)
	t.log.LogAttrs(context.Background(), slog.LevelDebug, msg, attrs...)
}

// take counts a line and returns how many more may follow. 0: this is the line that
// reports that lines are left out.
func (t *trace) take() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.clock.Now().UnixNano() / int64(time.Second); s != t.second {
		t.second, t.lines = s, 0
	}
	t.lines++
	return linesPerSecond - t.lines
}

const allBits = ^uint32(0)

// changed writes a line about a command and its result.
func (t *trace) changed(area, what string, err error, attrs ...slog.Attr) {
	if err != nil {
		attrs = append(attrs, slog.String("refused", err.Error()))
	}
	t.line(area, what, attrs...)
}

func (t *trace) sa(what string, id klips.SAID, err error) {
	if t.on(klips.DebugSPI, allBits) {
		t.changed("spi", what, err, slog.String("said", id.String()))
	}
}

func (t *trace) eroute(what string, s klips.Selector, err error) {
	if t.on(klips.DebugEroute, allBits) {
		t.changed("eroute", what, err, slog.String("eroute", s.String()))
	}
}

func (t *trace) device(what, name string, err error) {
	if t.on(klips.DebugTunnel, debugTncfg) {
		t.changed("tunnel", what, err, slog.String("device", name))
	}
}

// Debugging reports whether an area is switched on, for callers with lines of their own.
func (e *Engine) Debugging(a klips.DebugArea) bool { return e.trace.on(a, allBits) }

// Log writes a line into the debug log for an area that is switched on.
func (e *Engine) Log(area, msg string, attrs ...slog.Attr) { e.trace.line(area, msg, attrs...) }

// flow returns the attributes of a packet for a line.
func flow(h *packet.Header) slog.Attr {
	return slog.Attr{Value: slog.GroupValue( // without a name its attributes stand alone
		slog.String("src", h.Src.String()), slog.String("dst", h.Dst.String()),
		slog.Int("proto", int(h.Proto)), slog.Int("bytes", h.Total))}
}

// transformed writes a line about the transform of a packet by one SA.
func (t *trace) transformed(msg string, sa *sadb.SA, seq uint64, err error) {
	area, name := klips.DebugXform, "xform"
	switch sa.ID.Proto {
	case klips.ProtoESP:
		area, name = klips.DebugESP, "esp"
	case klips.ProtoAH:
		area, name = klips.DebugAH, "ah"
	case klips.ProtoComp:
		area, name = klips.DebugIPComp, "comp"
	}
	if !t.on(area, allBits) {
		return
	}
	attrs := []slog.Attr{slog.String("said", sa.ID.String())}
	if seq != 0 {
		attrs = append(attrs, slog.Uint64("seq", seq))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	t.line(name, msg, attrs...)
}
