package engine

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Limits in bytes and packets are checked when packets come. Limits in seconds are
// checked also when none come: key daemons are informed in time, and a key is removed
// when its time is over. The SAs are checked when a limit is due.

const (
	// lookEvery is how often SAs are checked whose time begins with their first packet,
	// until it comes. So the packet itself takes no lock.
	lookEvery = time.Second
	// lookApart is the least time between two checks of all SAs.
	lookApart = 50 * time.Millisecond
)

// lapses are the SAs with limits in seconds, and the time of their next check.
type lapses struct {
	mu     sync.Mutex
	sas    map[*sadb.SA]struct{}
	timer  clock.Timer // nil: no check is planned
	at     int64       // the time of the check, by the engine's clock
	closed bool
}

// watch records SAs that were made (by = 1) or removed (by = -1).
func (l *lapses) watch(e *Engine, by int, sas ...*sadb.SA) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	for _, sa := range sas {
		if !sa.HasTimes() {
			continue
		}
		if by < 0 {
			delete(l.sas, sa)
			continue
		}
		l.sas[sa] = struct{}{}
		now := e.now()
		hard, soft, at := due(sa, now)
		if hard || soft {
			at = now
		}
		l.lookAtLocked(e, at)
	}
	if len(l.sas) == 0 && l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// due reports which limits of an SA have passed, and when to check it next;
// math.MaxInt64: never.
func due(sa *sadb.SA, now int64) (hard, soft bool, at int64) {
	awaits := sa.AwaitsUse() // before Lapsed: the first packet can come between them
	hard, soft, at = sa.Lapsed(now)
	if awaits {
		at = min(at, now+int64(lookEvery))
	}
	return hard, soft, at
}

// lookAtLocked plans a check of all SAs at a time, unless an earlier one is planned;
// math.MaxInt64: none.
func (l *lapses) lookAtLocked(e *Engine, at int64) {
	if at == math.MaxInt64 {
		return
	}
	if l.timer != nil {
		if l.at <= at {
			return
		}
		l.timer.Stop()
	}
	l.at = at
	l.timer = e.clock.AfterFunc(time.Duration(at-e.now()), func() { e.lapse() })
}

// lapse removes the SAs whose hard limit has passed, and reports soft limits that have
// passed.
func (e *Engine) lapse() {
	hard, soft := e.lapses.look(e)
	for _, sa := range soft {
		e.soften(sa)
	}
	for _, sa := range hard {
		e.expire(sa)
	}
}

// look returns the SAs with a hard or a soft limit that has passed. While the knob is off
// it returns none.
func (l *lapses) look(e *Engine) (hard, soft []*sadb.SA) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if l.closed || !e.knobs.expireUnused.on() {
		return nil, nil
	}
	now, next := e.now(), int64(math.MaxInt64)
	for sa := range l.sas {
		h, s, at := due(sa, now)
		switch {
		case h:
			hard = append(hard, sa)
		case s:
			soft = append(soft, sa)
		}
		next = min(next, at)
	}
	for _, list := range [][]*sadb.SA{hard, soft} { // events come in the order in which the SAs were made
		slices.SortFunc(list, func(a, b *sadb.SA) int { return cmp.Compare(a.Ref, b.Ref) })
	}
	l.lookAtLocked(e, max(next, now+int64(lookApart)))
	return hard, soft
}

func (l *lapses) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
