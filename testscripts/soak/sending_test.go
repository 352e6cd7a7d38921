package main

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// An announcer is a lock that announces each time that it is given back.
type announcer chan struct{}

func (a announcer) Lock()   {}
func (a announcer) Unlock() { a <- struct{}{} }

// TestSendWithoutRoom checks that a sender releases the lock while its socket is full,
// and sends again when the socket has a reader again.
func TestSendWithoutRoom(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	raw, err := out.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1<<16)
	if e := raw.Write(func(fd uintptr) bool {
		for err == nil {
			_, err = unix.Write(int(fd), p)
		}
		return true
	}); e != nil || err != unix.EAGAIN {
		t.Fatalf("fill the pipe: %v, %v", e, err)
	}
	lock := make(announcer)
	n := 0
	go func() {
		defer close(lock)
		n, err = send(lock, out, p)
	}()
	<-lock // the first attempt found no room
	go io.Copy(io.Discard, in)
	for range lock {
	}
	if n <= 0 || err != nil {
		t.Errorf("with room again, send = %d, %v, want some bytes", n, err)
	}
}
