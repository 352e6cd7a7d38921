package netlock_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klips-go/ipsec/klips/netlock"
)

// One at a time has the lock: goroutines that share a Lock, and those with their own,
// like other programs.
func TestAcquire(t *testing.T) {
	var shared netlock.Lock
	var wg sync.WaitGroup
	var held atomic.Bool
	for i := range 8 {
		l := &shared
		if i%2 == 0 {
			l = new(netlock.Lock)
		}
		wg.Go(func() {
			for range 20 {
				release, err := l.Acquire(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				if !held.CompareAndSwap(false, true) {
					t.Error("two have the lock")
				}
				held.Store(false)
				release()
			}
			if l != &shared {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := shared.Close(); err != nil {
		t.Error(err)
	}
}

func TestAcquireIsGivenUp(t *testing.T) {
	var mine, other netlock.Lock
	release, err := other.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mine.Acquire(ctx); err != context.Canceled {
		t.Errorf("Acquire while another has the lock = %v, want that it is given up", err)
	}
	release()
	if release, err = mine.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
}

// The holder of a Lock can acquire it; others cannot, until it is released.
func TestHold(t *testing.T) {
	var mine, other netlock.Lock
	release, err := mine.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		inside, err := mine.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		inside()
	}
	again, err := mine.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := other.Acquire(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Acquire while another holds the lock = %v, want that it is given up", err)
	}
	release()
	release() // several calls are allowed
	if release, err = other.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
}
