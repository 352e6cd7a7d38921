// Package wait waits for packets on file descriptors in the way that costs the least
// while many packets come.
//
// A system call that lasts longer than 20 µs makes Go's monitor thread take the processor
// (P) away from its goroutine, which must then get one back: futexes, context switches,
// and a monitor that never rests. So a [Waiter] first waits for a limited time without
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

// How long a Waiter waits without telling the scheduler. It waits long if something came
// within that time before: then it soon comes again, and it is here sooner if its
// goroutine still has a processor.
const (
	short = 2 * time.Millisecond
	long  = 50 * time.Millisecond
)

// slice is how long a goroutine runs or waits before it yields. After 10 ms the monitor
// would take the processor away, often in the middle of a packet's work.
const slice = 5 * time.Millisecond

// A Waiter waits for descriptors that have something to read, or whose device is gone.
// One goroutine at a time calls Wait, Ready, Watch and Nap; any may call Interrupt and Stop.
type Waiter struct {
	epoll  int
	events [maxEvents]unix.EpollEvent
	ready  []int         // of the descriptors
	bound  time.Duration // of the next Wait: short or long
	yield  time.Time     // when the goroutine yields next
	pipe   [2]int
	once   sync.Once
	free   sync.Once
	done   atomic.Bool // Stop was called

	interrupting sync.RWMutex // guards freed, and the pipe of those that write into it
	freed        bool
}

// maxEvents is how many descriptors one Wait reports as ready. Others follow in the next
// one.
const maxEvents = 64

// waiters is how many Waiters exist, and processors is GOMAXPROCS before the first.
var (
	mu         sync.Mutex
	waiters    int
	processors int
)

// New makes a Waiter for descriptors, which stay the caller's.
func New(fds ...int) (*Waiter, error) {
	w := &Waiter{epoll: -1, ready: make([]int, 0, maxEvents), bound: short}
	if err := unix.Pipe2(w.pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	if err := w.Watch(fds...); err != nil {
		w.close()
		return nil, err
	}
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

// Watch replaces the descriptors. None is ready before the next Wait. If there is an
// error, the Waiter still has the ones before.
func (w *Waiter) Watch(fds ...int) error {
	// A new set has nothing left of the old one, although another process may have a copy
	// of a closed descriptor.
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	for i, fd := range append(fds[:len(fds):len(fds)], w.pipe[0]) {
		e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)} // any number is allowed in Fd
		if fd == w.pipe[0] {
			e.Fd = interrupted
		}
		if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
			unix.Close(epoll)
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	if w.epoll >= 0 {
		unix.Close(w.epoll)
	}
	w.epoll, w.ready = epoll, w.ready[:0]
	return nil
}

// interrupted is the number of the pipe among the descriptors.
const interrupted = -1

// Wait waits until a descriptor is ready, or until Interrupt. The error is os.ErrClosed
// after Stop, also in later calls.
func (w *Waiter) Wait() error {
	n, err := w.wait()
	if w.done.Load() {
		return os.ErrClosed
	}
	if err != nil {
		return err
	}
	w.ready = w.ready[:0]
	for _, e := range w.events[:n] {
		if e.Fd == interrupted {
			var b [8]byte
			_, _ = unix.Read(w.pipe[0], b[:]) // what is left ends the next Wait
			continue
		}
		w.ready = append(w.ready, int(e.Fd))
	}
	return nil
}

// wait fills events and returns their number.
func (w *Waiter) wait() (n int, err error) {
	begin := time.Now()
	for now := begin; now.Sub(begin) < w.bound && !w.done.Load(); now = time.Now() {
		if !now.Before(w.yield) {
			runtime.Gosched()
			w.yield = now.Add(slice)
		}
		n, errno := w.look(syscall.RawSyscall6, int(min(slice, w.bound).Milliseconds())) // the scheduler does not know
		if n > 0 {
			return n, nil
		}
		if errno != 0 && errno != unix.EINTR {
			return 0, os.NewSyscallError("epoll_pwait", errno)
		}
	}
	for !w.done.Load() {
		n, errno := w.look(syscall.Syscall6, -1)
		if n > 0 {
			w.bound = boundAfter(time.Since(begin))
			return n, nil
		}
		if errno != 0 && errno != unix.EINTR {
			return 0, os.NewSyscallError("epoll_pwait", errno)
		}
	}
	return 0, nil
}

// boundAfter returns how long the next Wait keeps the processor after one that took so long
// and did not.
func boundAfter(waited time.Duration) time.Duration {
	if waited < long {
		return long
	}
	return short
}

type syscall6 func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno)

// look is epoll_pwait with a limit in milliseconds, -1: none.
func (w *Waiter) look(call syscall6, limit int) (n int, errno syscall.Errno) {
	r, _, errno := call(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), uintptr(unsafe.Pointer(&w.events[0])), maxEvents, uintptr(limit), 0, 0)
	runtime.KeepAlive(w)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// Ready returns the numbers of the descriptors, in the order of Watch, that were ready
// when Wait returned, at most maxEvents. It is valid until the next Wait.
func (w *Waiter) Ready() []int { return w.ready }

// Nap lets a short time pass, at most 1 ms. The scheduler does not know of it.
func (w *Waiter) Nap(d time.Duration) {
	t := unix.NsecToTimespec(min(d, time.Millisecond).Nanoseconds())
	_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// Interrupt ends the Wait in progress, or else the next one.
func (w *Waiter) Interrupt() {
	w.interrupting.RLock()
	defer w.interrupting.RUnlock()
	if !w.freed { // otherwise the descriptor may be another one by now
		_, _ = unix.Write(w.pipe[1], []byte{0}) // a full pipe ends Wait as well
	}
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
		w.interrupting.Lock()
		w.freed = true
		w.close()
		w.interrupting.Unlock()
		mu.Lock()
		waiters--
		mu.Unlock()
	})
}

func (w *Waiter) close() {
	for _, fd := range append(w.pipe[:], w.epoll) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
