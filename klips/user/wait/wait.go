// Package wait waits for packets on file descriptors in the way that costs the least
// while many packets come.
//
// A system call that lasts longer than 20 µs makes Go's monitor thread take the processor
// (P) away from its goroutine, which must then get one back: futexes, context switches,
// and a monitor that never rests. So a [Waiter] first waits for a short time without
// telling the scheduler (a raw system call); its goroutine keeps its P. Only if nothing
// comes does it wait in the usual way. An idle program thus has no wakeups.
//
// A raw system call is interrupted when the runtime wants to stop the goroutine, for the
// garbage collector for example (SIGURG, EINTR), and then returns to Go code. Each Waiter
// that waits may keep a P, so [New] raises GOMAXPROCS by one: the other goroutines always
// find one.
package wait

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// short is how long a Waiter waits without telling the scheduler.
const short = 2 * time.Millisecond

// A Waiter waits for descriptors that have something to read, or whose device is gone.
// One goroutine calls Wait, Ready, Watch and Nap; any may call Interrupt and Stop.
type Waiter struct {
	poll []unix.PollFd // one per descriptor, then the pipe that ends a Wait
	pipe [2]int
	once sync.Once
	free sync.Once
	done atomic.Bool // Stop was called
}

// waiters is how many Waiters exist, and processors is GOMAXPROCS before the first.
var (
	mu         sync.Mutex
	waiters    int
	processors int
)

// New makes a Waiter for descriptors, which stay the caller's.
func New(fds ...int) (*Waiter, error) {
	w := &Waiter{}
	if err := unix.Pipe2(w.pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	w.Watch(fds...)
	mu.Lock()
	defer mu.Unlock()
	if processors == 0 {
		processors = runtime.GOMAXPROCS(0)
	}
	waiters++
	// It is never lowered: that stops the world, and what is left over costs nothing.
	if n := processors + waiters; n > runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(n)
	}
	return w, nil
}

// Watch replaces the descriptors. None is ready before the next Wait.
func (w *Waiter) Watch(fds ...int) {
	w.poll = w.poll[:0]
	for _, fd := range append(fds[:len(fds):len(fds)], w.pipe[0]) {
		w.poll = append(w.poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
}

// Wait waits until a descriptor is ready, or until Interrupt. The error is os.ErrClosed
// after Stop, also in later calls.
func (w *Waiter) Wait() error {
	for limit := time.Now().Add(short); !w.done.Load(); {
		n, errno := w.look(time.Until(limit))
		if errno == 0 && n == 0 || errno != 0 && errno != unix.EINTR {
			_, err := unix.Poll(w.poll, -1) // the scheduler knows
			if err != nil && err != unix.EINTR {
				return os.NewSyscallError("poll", err)
			}
			if err != nil {
				continue
			}
			n = 1
		}
		if n > 0 {
			break
		}
	}
	if w.done.Load() {
		return os.ErrClosed
	}
	if w.poll[len(w.poll)-1].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(w.pipe[0], b[:]) // what is left ends the next Wait
	}
	return nil
}

// look is ppoll with a limit. The scheduler does not know of it.
func (w *Waiter) look(limit time.Duration) (n int, errno syscall.Errno) {
	t := unix.NsecToTimespec(max(0, limit.Nanoseconds()))
	r, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&w.poll[0])), uintptr(len(w.poll)),
		uintptr(unsafe.Pointer(&t)), 0, 0, 0)
	runtime.KeepAlive(w)
	return int(r), errno
}

// Ready reports whether descriptor number i was ready when Wait returned.
func (w *Waiter) Ready(i int) bool { return w.poll[i].Revents != 0 }

// Nap lets a short time pass, at most 1 ms. The scheduler does not know of it.
func (w *Waiter) Nap(d time.Duration) {
	t := unix.NsecToTimespec(min(d, time.Millisecond).Nanoseconds())
	_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// Interrupt ends the Wait in progress, or else the next one. It must not be called after
// Free.
func (w *Waiter) Interrupt() {
	_, _ = unix.Write(w.pipe[1], []byte{0}) // a full pipe ends Wait as well
}

// Stop ends Wait, also later calls.
func (w *Waiter) Stop() {
	w.once.Do(func() {
		w.done.Store(true)
		w.Interrupt()
	})
}

// Free frees what the Waiter has. It must not be called while Wait is in progress.
func (w *Waiter) Free() {
	w.free.Do(func() {
		for _, fd := range w.pipe {
			unix.Close(fd)
		}
		mu.Lock()
		waiters--
		mu.Unlock()
	})
}
