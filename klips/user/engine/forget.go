package engine

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/klips-go/ipsec/klips/internal/wipe"
)

// The keys of a removed SA are overwritten at once. The copies inside ciphers are
// overwritten when the garbage collector finds that no worker can use them any more
// (package wipe). In a stack with little to do that can take minutes, so the engine runs
// the collector. Then it overwrites the registers that signals have stored while a cipher
// was at work.

// forgetAfter is the least time until the collector runs, since many SAs may be removed
// together. With a large heap the pause is forgetRest times as long as the last run of
// the collector.
const (
	forgetAfter = time.Second
	forgetRest  = 50
)

// A forgetter runs the garbage collector so that keys are overwritten.
type forgetter struct {
	waits atomic.Bool  // a run is planned
	took  atomic.Int64 // how long the last run took, in nanoseconds
}

// soon plans a run that overwrites the copies of the keys of removed SAs. It uses the
// machine's own clock, because nothing else in an engine depends on it.
func (f *forgetter) soon() {
	if f.waits.Swap(true) {
		return
	}
	time.AfterFunc(max(forgetAfter, forgetRest*time.Duration(f.took.Load())), func() {
		f.waits.Store(false)
		began := time.Now()
		runtime.GC()
		wipe.Signals()
		f.took.Store(int64(time.Since(began)))
	})
}
