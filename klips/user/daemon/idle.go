package daemon

import (
	"context"
	"time"
)

// A client that registered (RFC 2367 section 3.1.7) is a listener, and may stay as long
// as it likes. Any other client is idle when it has neither sent a request nor read an
// answer for some time. The limits leave room for new clients: there are fewer
// listeners than clients, and when there are too many clients the one that has been
// idle longest is closed.
const (
	maxClients   = 256
	maxListeners = 192
	idleTimeout  = 5 * time.Minute
	idleInterval = time.Minute // between two checks
)

// touch notes that the client has sent a request, or has read all earlier answers.
func (c *client) touch() { c.active.Store(c.clock.Now().UnixNano()) }

// idleSince returns the time of the last touch.
func (c *client) idleSince() time.Time { return time.Unix(0, c.active.Load()) }

// listensLocked reports whether the client is a listener. The caller holds
// clients.mu.
func (c *client) listensLocked() bool { return c.registered != 0 }

// admit adds a client to the receivers of broadcasts. If there are too many clients,
// the one that has been idle longest is closed.
func (s *server) admit(c *client) {
	if out := s.clients.join(c); out != nil {
		s.log.Warn("too many clients; the one that was idle longest is closed", "limit", maxClients, "pid", out.pid)
		out.hangUp()
	}
}

// watchIdle closes idle clients until ctx ends.
func (s *server) watchIdle(ctx context.Context) {
	s.clock.AfterFunc(idleInterval, func() {
		if ctx.Err() != nil {
			return
		}
		for _, c := range s.clients.idle(s.clock.Now().Add(-idleTimeout)) {
			s.log.Debug("an idle client is closed", "pid", c.pid)
			c.hangUp()
		}
		s.watchIdle(ctx)
	})
}

// longestIdleLocked returns the client that has been idle longest; nil if all are
// listeners.
func (a *clients) longestIdleLocked() (longest *client) {
	for _, c := range a.all {
		if !c.listensLocked() && (longest == nil || c.idleSince().Before(longest.idleSince())) {
			longest = c
		}
	}
	return longest
}

// evict removes and returns the client that has been idle longest; nil if all are
// listeners.
func (a *clients) evict() *client {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.evictLocked()
}

func (a *clients) evictLocked() *client {
	out := a.longestIdleLocked()
	if out != nil {
		a.leaveLocked(out)
	}
	return out
}

// idle returns the clients, without listeners, that have been idle at least since a
// time.
func (a *clients) idle(since time.Time) (l []*client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.all {
		if !c.listensLocked() && !c.idleSince().After(since) {
			l = append(l, c)
		}
	}
	return l
}
