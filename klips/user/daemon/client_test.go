package daemon

import (
	"testing"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
)

// The queue of a client that does not read is bounded, and the first dropped message is
// reported. Answers are not dropped.
func TestBroadcastIsBounded(t *testing.T) {
	c := &client{clock: clocktest.New(), wake: make(chan struct{}, 1)} // no goroutine sends
	var a clients
	slow := 0
	a.slow = func(*client) { slow++ }
	a.join(c)
	const n = 10_000
	received := 0
	for range n {
		received += a.broadcast(everyone, []byte("message"))
	}
	if received != maxBroadcasts || len(c.queue) != maxBroadcasts || c.broadcasts != maxBroadcasts {
		t.Errorf("%d messages were taken and %d wait, want %d", received, len(c.queue), maxBroadcasts)
	}
	if a.lost() != n-maxBroadcasts || slow != 1 {
		t.Errorf("%d were dropped, reported %d times, want %d and 1", a.lost(), slow, n-maxBroadcasts)
	}
	c.answer([]byte("answer"))
	if len(c.queue) != maxBroadcasts+1 {
		t.Errorf("with an answer %d messages wait, want %d", len(c.queue), maxBroadcasts+1)
	}
	// Sent messages make room.
	for range 3 {
		if _, ok := c.pop(); !ok {
			t.Fatal("nothing waits")
		}
	}
	for range 5 {
		a.broadcast(everyone, []byte("message"))
	}
	if c.broadcasts != maxBroadcasts || cap(c.queue) > 4*maxBroadcasts {
		t.Errorf("%d messages wait in room for %d, want %d", c.broadcasts, cap(c.queue), maxBroadcasts)
	}
}

// evict never chooses a listener, and chooses the client that was idle longest.
func TestEvict(t *testing.T) {
	clock := clocktest.New()
	var a clients
	var all []*client
	for range 4 {
		clock.Advance(1)
		c := &client{clock: clock}
		c.touch()
		a.join(c)
		all = append(all, c)
	}
	a.register(all[0], pfkey.SATypeESP)
	clock.Advance(1)
	all[1].touch()
	if l := a.idle(clock.Now().Add(-1)); len(l) != 2 || l[0] != all[2] || l[1] != all[3] {
		t.Errorf("%d are idle, want the last two", len(l))
	}
	for _, want := range []*client{all[2], all[3], all[1], nil} {
		if got := a.evict(); got != want {
			t.Errorf("evict = %p, want %p", got, want)
		}
	}
	if len(a.all) != 1 {
		t.Errorf("%d are left, want the listener", len(a.all))
	}
}
