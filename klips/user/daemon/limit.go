package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/klips-go/ipsec/klips/user/clock"
)

// The log gets a limited number of lines with the same text in an interval, so that no
// client can fill the disk.
const (
	logBurst    = 10
	logInterval = time.Minute
)

// limits is a slog.Handler that passes on a limited number of records with the same
// text in an interval, and at its end one line with the number of suppressed ones.
// Debug records always pass: they are switched on by hand.
type limits struct {
	slog.Handler
	*counts
}

// counts holds the records of the current intervals, by text. All handlers made from
// one share it.
type counts struct {
	clock clock.Clock

	mu   sync.Mutex
	seen map[string]*count
}

type count struct {
	n     int
	level slog.Level
	to    slog.Handler
}

func newLimits(to slog.Handler, c clock.Clock) limits {
	return limits{to, &counts{clock: c, seen: map[string]*count{}}}
}

func (l limits) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo || l.take(r, l.Handler) {
		return l.Handler.Handle(ctx, r)
	}
	return nil
}

func (l limits) WithAttrs(a []slog.Attr) slog.Handler {
	return limits{l.Handler.WithAttrs(a), l.counts}
}

func (l limits) WithGroup(name string) slog.Handler {
	return limits{l.Handler.WithGroup(name), l.counts}
}

// take counts a record and reports whether it is passed on. The first record of a text
// begins an interval.
func (c *counts) take(r slog.Record, to slog.Handler) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.seen[r.Message]
	if n == nil {
		n = &count{level: r.Level, to: to}
		c.seen[r.Message] = n
		c.clock.AfterFunc(logInterval, func() { c.end(r.Message, n) })
	}
	n.n++
	return n.n <= logBurst
}

// end ends an interval.
func (c *counts) end(text string, n *count) {
	c.mu.Lock()
	current := c.seen[text] == n
	if current {
		delete(c.seen, text)
	}
	more := n.n - logBurst
	c.mu.Unlock()
	if !current || more <= 0 {
		return
	}
	r := slog.NewRecord(c.clock.Now(), n.level, fmt.Sprintf("%s: %d more suppressed", text, more), 0)
	_ = n.to.Handle(context.Background(), r)
}

// flush ends all intervals.
func (c *counts) flush() {
	c.mu.Lock()
	seen := maps.Clone(c.seen)
	c.mu.Unlock()
	for text, n := range seen {
		c.end(text, n)
	}
}
