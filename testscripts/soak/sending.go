package main

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// sending is read-locked while the kernel takes bytes from a sender, and locked to stop
// new packets.
var sending sync.RWMutex

// send writes p to a socket and returns how many bytes the kernel has taken. It holds
// the lock only during an attempt, not while the socket has no room. The peer makes room
// for a TCP stream, perhaps only after another goroutine has had the lock.
func send(lock sync.Locker, c syscall.Conn, p []byte) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	waited := raw.Write(func(fd uintptr) (done bool) {
		lock.Lock()
		defer lock.Unlock()
		n, err = unix.Write(int(fd), p)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if waited != nil { // the socket was closed, or its deadline has passed
		return 0, waited
	}
	return max(n, 0), err
}
