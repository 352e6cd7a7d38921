package wipe

import (
	"encoding/binary"
	"os"
	"syscall"
)

// Signals overwrites what earlier signals have stored of the registers of the processor.
// The Go runtime interrupts threads with signals, also in the midst of a cipher, and the
// kernel then stores all registers on the thread's stack for signals (sigaltstack(2)).
// They stay there until the next signal of this thread, which for an idle one may be never.
//
// So Signals sends one to each thread, and does not wait until they have it. System calls
// that wait return EINTR then, as for the signals of the runtime. What is in registers at
// that moment is stored again, see [Registers]. Without /proc it does nothing. It
// allocates little, because tests count allocations while it may run.
func Signals() {
	threads, err := syscall.Open("/proc/self/task", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer syscall.Close(threads)
	var buf [4096]byte
	for {
		n, err := syscall.ReadDirent(threads, buf[:])
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
		eachID(buf[:n], func(id int) {
			// The runtime ignores this signal of its own when it has not sent it.
			syscall.Tgkill(os.Getpid(), id, syscall.SIGURG)
		})
	}
}

// eachID calls f with each name that is a number in directory entries (getdents(2)).
func eachID(entries []byte, f func(id int)) {
	const lengthAt, nameAt = 16, 19 // in struct linux_dirent64
	for len(entries) > nameAt {
		n := int(binary.NativeEndian.Uint16(entries[lengthAt:]))
		if n < nameAt || n > len(entries) {
			return
		}
		id := 0
		for _, c := range entries[nameAt:n] {
			if c < '0' || c > '9' { // the end, or a dot
				break
			}
			id = 10*id + int(c-'0')
		}
		if id > 0 {
			f(id)
		}
		entries = entries[n:]
	}
}
