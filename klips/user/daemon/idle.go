package daemon

import (
	"context"
	"time"
)

// Who registered (RFC 2367 section 3.1.7) is a listener, and listens as long as
// it likes. Everyone else is there to ask, and idle when it has neither asked
// anything nor taken an answer for some time. The limits leave room for those
// who come: there are fewer listeners than clients, and when there are too many
// clients the one that has been idle longest goes.
const (
	maxClients   = 256
	maxListeners = 192
	idleTimeout  = 5 * time.Minute
	idleInterval = time.Minute // between two looks
)

// touch notes that the client asks, or has taken all answers up to the next.
func (p *peer) touch() { p.active.Store(p.clock.Now().UnixNano()) }

// idleSince returns when the client last did so.
func (p *peer) idleSince() time.Time { return time.Unix(0, p.active.Load()) }

// listensLocked reports whether the client is a listener. The caller holds
// audience.mu.
func (p *peer) listensLocked() bool { return p.registered != 0 }

// admit lets a client hear what is sent to all. If there are too many, the one
// that has been idle longest is closed.
func (s *server) admit(p *peer) {
	if out := s.audience.join(p); out != nil {
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
		for _, p := range s.audience.idle(s.clock.Now().Add(-idleTimeout)) {
			s.log.Debug("an idle client is closed", "pid", p.pid)
			p.hangUp()
		}
		s.watchIdle(ctx)
	})
}

// longestIdleLocked returns the peer, other than a listener, that has been idle
// longest; nil if all listen.
func (a *audience) longestIdleLocked() (longest *peer) {
	for _, p := range a.peers {
		if !p.listensLocked() && (longest == nil || p.idleSince().Before(longest.idleSince())) {
			longest = p
		}
	}
	return longest
}

// evict removes and returns the peer that has been idle longest; nil if there is
// none but listeners.
func (a *audience) evict() *peer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.evictLocked()
}

func (a *audience) evictLocked() *peer {
	out := a.longestIdleLocked()
	if out != nil {
		a.leaveLocked(out)
	}
	return out
}

// idle returns the peers, other than listeners, that have been idle since a time
// or longer.
func (a *audience) idle(since time.Time) (l []*peer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.peers {
		if !p.listensLocked() && !p.idleSince().After(since) {
			l = append(l, p)
		}
	}
	return l
}
