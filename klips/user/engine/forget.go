package engine

import (
	"runtime"
	"sync/atomic"
	"time"
)

// The keys of an SA that is gone are overwritten at once. The copies that ciphers have are
// overwritten when the garbage collector finds that no worker can be using them any more
// (package wipe). A stack with little to do would wait for that for minutes, so the engine
// asks for it.

// forgetAfter is how long it takes at least until the engine asks: many SAs may go. With a
// large heap it rests for forgetRest times as long as the collector took before.
const (
	forgetAfter = time.Second
	forgetRest  = 50
)

// A forgetter asks the garbage collector to look for keys.
type forgetter struct {
	waits atomic.Bool  // it is about to ask
	took  atomic.Int64 // how long the collector took last, in nanoseconds
}

// soon lets the copies of keys of SAs that are gone be overwritten soon. It goes by the
// machine's own clock, because nothing else that an engine does depends on it.
func (f *forgetter) soon() {
	if f.waits.Swap(true) {
		return
	}
	time.AfterFunc(max(forgetAfter, forgetRest*time.Duration(f.took.Load())), func() {
		f.waits.Store(false)
		began := time.Now()
		runtime.GC()
		f.took.Store(int64(time.Since(began)))
	})
}
