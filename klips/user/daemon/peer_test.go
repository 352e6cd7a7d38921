package daemon

import (
	"testing"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
)

// What waits for a client that does not read is bounded; of what is dropped the
// first message is told of. Answers are not dropped.
func TestTellIsBounded(t *testing.T) {
	p := &peer{clock: clocktest.New(), wake: make(chan struct{}, 1)} // nobody sends
	var a audience
	deaf := 0
	a.deaf = func(*peer) { deaf++ }
	a.join(p)
	const n = 10_000
	heard := 0
	for range n {
		heard += a.tell(everyone, []byte("news"))
	}
	if heard != maxNews || len(p.queue) != maxNews || p.news != maxNews {
		t.Errorf("%d messages were taken and %d wait, want %d", heard, len(p.queue), maxNews)
	}
	if a.lost() != n-maxNews || deaf != 1 {
		t.Errorf("%d were dropped and that was told %d times, want %d and 1", a.lost(), deaf, n-maxNews)
	}
	p.answer([]byte("answer"))
	if len(p.queue) != maxNews+1 {
		t.Errorf("with an answer %d messages wait, want %d", len(p.queue), maxNews+1)
	}
	// What was sent makes room.
	for range 3 {
		if _, ok := p.pop(); !ok {
			t.Fatal("nothing waits")
		}
	}
	for range 5 {
		a.tell(everyone, []byte("news"))
	}
	if p.news != maxNews || cap(p.queue) > 4*maxNews {
		t.Errorf("%d messages wait in room for %d, want %d", p.news, cap(p.queue), maxNews)
	}
}

// Listeners are never chosen to go, and the longest idle is.
func TestEvict(t *testing.T) {
	clock := clocktest.New()
	var a audience
	var all []*peer
	for range 4 {
		clock.Advance(1)
		p := &peer{clock: clock}
		p.touch()
		a.join(p)
		all = append(all, p)
	}
	a.register(all[0], pfkey.SATypeESP)
	clock.Advance(1)
	all[1].touch()
	if l := a.idle(clock.Now().Add(-1)); len(l) != 2 || l[0] != all[2] || l[1] != all[3] {
		t.Errorf("%d are idle, want the last two", len(l))
	}
	for _, want := range []*peer{all[2], all[3], all[1], nil} {
		if got := a.evict(); got != want {
			t.Errorf("evict = %p, want %p", got, want)
		}
	}
	if len(a.peers) != 1 {
		t.Errorf("%d are left, want the listener", len(a.peers))
	}
}
