package wait

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is the limit for expected events. Only a failure takes so long.
const patience = time.Minute

func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func waiter(t *testing.T, fds ...int) *Waiter {
	t.Helper()
	w, err := New(fds...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Stop(); w.Free() })
	return w
}

// A waiting is a Wait in progress, on a thread of its own.
type waiting struct {
	tid  int
	done chan error
}

func begin(w *Waiter) *waiting {
	tid := make(chan int)
	g := &waiting{done: make(chan error, 1)}
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		g.done <- w.Wait()
	}()
	g.tid = <-tid
	return g
}

func (g *waiting) result(t *testing.T) error {
	t.Helper()
	select {
	case err := <-g.done:
		return err
	case <-time.After(patience):
		t.Fatal("Wait does not return")
		return nil
	}
}

// long waits until the thread waits in the usual way: in epoll_pwait, whose fourth
// argument is then -1 (proc_pid_syscall(5)).
func (g *waiting) long(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		text, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(g.tid) + "/syscall")
		if err != nil {
			t.Fatal(err)
		}
		if f := strings.Fields(string(text)); len(f) > 4 && f[0] == strconv.Itoa(unix.SYS_EPOLL_PWAIT) && strings.HasSuffix(f[4], "ffffffff") {
			return
		}
	}
	t.Fatal("the thread does not wait in the usual way")
}

// switches returns how often the thread has given up its processor.
func (g *waiting) switches(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(g.tid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, n, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
	n, _, _ = strings.Cut(n, "\n")
	return n
}

// Wait returns for what is there already, for what comes within the short time, and for
// what comes after it; Ready reports which descriptor it is.
func TestWait(t *testing.T) {
	r0, w0 := pipe(t)
	r1, w1 := pipe(t)
	w := waiter(t, r0, r1)
	read := func(fd int) {
		t.Helper()
		if n, err := unix.Read(fd, make([]byte, 1)); n != 1 || err != nil {
			t.Fatalf("read = %d, %v", n, err)
		}
	}
	write := func(fd int) {
		t.Helper()
		if _, err := unix.Write(fd, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	write(w1)
	if err := w.Wait(); err != nil || !slices.Equal(w.Ready(), []int{1}) {
		t.Errorf("Wait = %v, ready %v, want only the second", err, w.Ready())
	}
	read(r1)
	for range 20 {
		g := begin(w)
		write(w0)
		if err := g.result(t); err != nil || !slices.Equal(w.Ready(), []int{0}) {
			t.Errorf("Wait = %v, ready %v, want only the first", err, w.Ready())
		}
		read(r0)
	}
	g := begin(w)
	g.long(t)
	write(w0)
	write(w1)
	if err := g.result(t); err != nil || len(w.Ready()) == 0 {
		t.Errorf("Wait = %v, ready %v", err, w.Ready())
	}
}

// If something comes soon after the short time, the next Wait keeps its processor longer.
// If nothing comes then, the one after it is short again.
func TestLong(t *testing.T) {
	for waited, want := range map[time.Duration]time.Duration{short: long, long - 1: long, long: short, time.Hour: short} {
		if got := boundAfter(waited); got != want {
			t.Errorf("after %v the next time is %v, want %v", waited, got, want)
		}
	}
	r, wr := pipe(t)
	w := waiter(t, r)
	// However slow the machine is, it does not wait in the usual way before the time is over.
	for _, keeps := range []time.Duration{short, long} {
		w.bound = keeps
		start := time.Now()
		g := begin(w)
		g.long(t)
		before := time.Since(start)
		if _, err := unix.Write(wr, []byte{1}); err != nil {
			t.Fatal(err)
		}
		if err := g.result(t); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Read(r, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if before < keeps {
			t.Errorf("it waits in the usual way after %v, want %v at least", before, keeps)
		}
	}
	if w.bound != short {
		t.Errorf("after a Wait that was longer than %v the next time is %v", long, w.bound)
	}
}

// Interrupt ends a Wait in progress, or the next one, and no other. Then the Waiter can
// have other descriptors.
func TestInterrupt(t *testing.T) {
	r0, w0 := pipe(t)
	r1, w1 := pipe(t)
	w := waiter(t, r0)
	for _, idle := range []bool{false, true} {
		g := begin(w)
		if idle {
			g.long(t)
		}
		w.Interrupt()
		if err := g.result(t); err != nil || len(w.Ready()) != 0 {
			t.Errorf("Wait = %v, ready %v, want none", err, w.Ready())
		}
	}
	w.Interrupt()
	if err := w.Wait(); err != nil || len(w.Ready()) != 0 {
		t.Errorf("Wait = %v, ready %v, want none", err, w.Ready())
	}
	if err := w.Watch(r1); err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{w0, w1} {
		if _, err := unix.Write(fd, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Wait(); err != nil || !slices.Equal(w.Ready(), []int{0}) {
		t.Errorf("Wait = %v, ready %v, want the new one", err, w.Ready())
	}
	if err := w.Watch(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("Watch = %v, want EBADF", err)
	}
	if err := w.Wait(); err != nil || !slices.Equal(w.Ready(), []int{0}) {
		t.Errorf("Wait = %v, ready %v, want the one of before", err, w.Ready())
	}
}

// Stop ends a Wait in progress, and later ones.
func TestStop(t *testing.T) {
	for _, idle := range []bool{false, true} {
		r, wr := pipe(t)
		w := waiter(t, r)
		g := begin(w)
		if idle {
			g.long(t)
		}
		w.Stop()
		if err := g.result(t); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Wait = %v, want os.ErrClosed", err)
		}
		_, _ = unix.Write(wr, []byte{1})
		w.Stop()
		if err := begin(w).result(t); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a later Wait = %v, want os.ErrClosed", err)
		}
	}
}

// The end of the other side is something to read.
func TestHangUp(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	w := waiter(t, p[0])
	g := begin(w)
	unix.Close(p[1])
	if err := g.result(t); err != nil || !slices.Equal(w.Ready(), []int{0}) {
		t.Errorf("Wait = %v, ready %v", err, w.Ready())
	}
}

// While goroutines wait, others get a processor, and the garbage collector is not held
// up: it stops them by signals.
func TestOthersRun(t *testing.T) {
	const n = 8
	var done []chan error
	var ws []*Waiter
	feeds := make(chan int, n)
	for range n {
		r, wr := pipe(t)
		w := waiter(t, r)
		ws = append(ws, w)
		c := make(chan error, 1)
		done = append(done, c)
		go func() { // it always waits in the short time
			b := make([]byte, 16)
			for {
				if err := w.Wait(); err != nil {
					c <- err
					return
				}
				_, _ = unix.Read(r, b)
			}
		}()
		feeds <- wr
	}
	if got, least := runtime.GOMAXPROCS(0), n; got <= least {
		t.Errorf("GOMAXPROCS is %d with %d waiters", got, n)
	}
	for range 200 {
		wr := <-feeds
		_, _ = unix.Write(wr, []byte{1})
		feeds <- wr
		runtime.GC()
	}
	for i, w := range ws {
		w.Stop()
		if err := (&waiting{done: done[i]}).result(t); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
}

// Wait allocates nothing.
func TestWaitAllocates(t *testing.T) {
	r, wr := pipe(t)
	w := waiter(t, r)
	b := make([]byte, 1)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = unix.Write(wr, b)
		if err := w.Wait(); err != nil {
			t.Error(err)
		}
		_, _ = unix.Read(r, b)
		w.Nap(time.Microsecond)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An idle Waiter does nothing: its thread is not switched.
func TestIdle(t *testing.T) {
	r, _ := pipe(t)
	w := waiter(t, r)
	g := begin(w)
	g.long(t)
	before := g.switches(t)
	time.Sleep(2 * long) // however long this is, nothing must happen
	if after := g.switches(t); after != before {
		t.Errorf("the thread was switched %s times, and %s times when it had nothing to do yet", after, before)
	}
	w.Stop()
	if err := g.result(t); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}
