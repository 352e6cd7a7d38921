package wipe

import (
	"encoding/binary"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"unsafe"
)

// On no thread there is anything left of registers that a signal has stored.
func TestSignals(t *testing.T) {
	t.Run("own thread", func(t *testing.T) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		store(t)
		Signals()
		gone(t)
	})
	t.Run("another thread", func(t *testing.T) {
		begin, check, end := make(chan bool), make(chan bool), make(chan bool)
		go func() {
			runtime.LockOSThread() // and does not unlock it: the thread ends
			store(t)
			begin <- true
			<-check
			gone(t)
			close(end)
		}()
		<-begin
		Signals()
		check <- true
		<-end
	})
}

// Every thread is found, and a listing that ends too early is not read past its end.
func TestThreads(t *testing.T) {
	fd, err := syscall.Open("/proc/self/task", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	buf := make([]byte, 1<<16)
	n, err := syscall.ReadDirent(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
	var got []string
	eachID(buf[:n], func(id int) { got = append(got, strconv.Itoa(id)) })
	if len(names) == 0 || !slices.Equal(got, names) {
		t.Errorf("threads %v, want %v", got, names)
	}
	for i := range n {
		eachID(buf[:i:i], func(int) {})
	}
	if n := testing.AllocsPerRun(20, Signals); n > 3 {
		t.Errorf("%v allocations", n)
	}
}

// gone fails the test if the secret is still stored. A thread runs only after it has
// received the signals that were sent before.
func gone(t *testing.T) {
	if stored(t) {
		t.Error("the registers are still on the stack for signals")
	}
}

// store makes the kernel store secret registers for a signal of this thread. They are the
// fourth to sixth argument of the system call, which does not use them.
func store(t *testing.T) {
	for range 1000 { // the runtime may send another signal before stored has a look
		syscall.RawSyscall6(syscall.SYS_TGKILL, uintptr(syscall.Getpid()), uintptr(syscall.Gettid()),
			uintptr(syscall.SIGURG), secret, secret, secret)
		if stored(t) {
			return
		}
	}
	t.Error("a signal has not stored the registers; the test shows nothing")
}

// secret is the value of some registers.
const secret = 0x1d5ec2e71d5ec2e7

// stored reports whether the secret is on the stack for signals of this thread.
func stored(t *testing.T) bool {
	var s struct { // stack_t
		at    uintptr
		flags int32
		size  uintptr
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SIGALTSTACK, 0, uintptr(unsafe.Pointer(&s)), 0); e != 0 {
		t.Error(e)
		return false
	}
	b := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), s.at)), s.size)
	for ; len(b) >= 16; b = b[8:] {
		if binary.NativeEndian.Uint64(b) == secret && binary.NativeEndian.Uint64(b[8:]) == secret {
			return true
		}
	}
	return false
}
