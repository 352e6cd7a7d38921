package clitest_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// A tape records the messages and ioctls to a kernel, and answers as the recorded
// kernel did.
type tape struct {
	mu        sync.Mutex
	messages  []string // in hex, with the sequence numbers and the pid of the recording
	ioctls    []string // "attach ipsec0 eth0", "detach ipsec0", "clear"
	socketErr error
	writeErr  syscall.Errno
	writeAt   int // number of the write that fails, from 1; 0: each
	writeLen  int // if not 0, messages of another length (in bytes) fail
	ioctlErr  error
	replies   [][]byte // queued by the first message
}

// recordedPID is the process id of the recorded programs.
const recordedPID = 4242

// newTape returns the tape of a recording.
func newTape(t *testing.T, c *recorded.Command) *tape {
	k := &tape{}
	for name, value := range c.Env {
		switch name {
		case "KLIPS_WRITE_ERRNO":
			k.writeErr = errno(t, value)
		case "KLIPS_WRITE_ERRNO_AT":
			k.writeAt, _ = strconv.Atoi(value)
		case "KLIPS_WRITE_SHORT":
			if k.writeLen, _ = strconv.Atoi(value); k.writeLen == 0 {
				k.writeLen = -1
			}
		case "KLIPS_IOCTL_ERRNO", "KLIPS_INET_ERRNO":
			k.ioctlErr = errno(t, value)
		case "KLIPS_SOCKET_ERRNO":
			// Tables and device calls do not need the socket.
			k.socketErr = errno(t, value)
		case "KLIPS_REPLY":
			for text := range strings.SplitSeq(value, ",") {
				b, err := hex.DecodeString(text)
				if err != nil {
					t.Fatalf("%s: reply %q", c.ID, text)
				}
				k.replies = append(k.replies, b)
			}
		}
	}
	return k
}

func (k *tape) ioctl(r classic.Request, virtual, physical string) error {
	text := "clear"
	switch r {
	case classic.SetDev:
		text = "attach " + virtual + " " + physical
	case classic.DelDev:
		text = "detach " + virtual
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ioctls = append(k.ioctls, text)
	return k.ioctlErr
}

// asked returns the messages and ioctls so far.
func (k *tape) asked() (messages, ioctls []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.messages, k.ioctls
}

// take records a request and returns the answers.
func (k *tape) take(b []byte) (back [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := append([]byte(nil), b...)
	binary.NativeEndian.PutUint32(m[8:], uint32(len(k.messages)+1))
	binary.NativeEndian.PutUint32(m[12:], recordedPID)
	k.messages = append(k.messages, hex.EncodeToString(m))
	var errno syscall.Errno
	switch {
	case k.writeLen != 0 && k.writeLen != len(b):
		errno = syscall.EMSGSIZE
	case k.writeErr != 0 && (k.writeAt == 0 || k.writeAt == len(k.messages)):
		errno = k.writeErr
	}
	if errno == 0 {
		for _, r := range k.replies {
			if len(r) >= 16 && binary.NativeEndian.Uint32(r[12:]) == recordedPID {
				copy(r[8:16], b[8:16])
			}
			back = append(back, r)
		}
		k.replies = nil
	}
	h, _ := pfkey.ParseHeader(b)
	end := pfkey.Ack(h)
	if errno != 0 {
		end = pfkey.ErrorReply(h, errno)
	}
	e, err := end.Marshal()
	if err != nil {
		panic(err)
	}
	return append(back, e)
}

// A machine has a KLIPS that a tape simulates, and a directory with tables.
type machine struct {
	path string
	mu   sync.Mutex
	tape *tape
}

func newMachine(t *testing.T) *machine {
	dir, err := os.MkdirTemp("", "k") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{path: filepath.Join(dir, "s")}
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: m.path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			go m.serve(c)
		}
	}()
	return m
}

func (m *machine) serve(c *net.UnixConn) {
	defer c.Close()
	buf := make([]byte, pfkey.MaxMessage)
	for {
		n, err := c.Read(buf)
		if err != nil || n == 0 {
			return
		}
		m.mu.Lock()
		k := m.tape
		m.mu.Unlock()
		for _, b := range k.take(buf[:n]) {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
}

// stack returns stack klips on the machine, with the tables in procNet.
func (m *machine) stack(k *tape, procNet string) *classic.Stack {
	m.mu.Lock()
	m.tape = k
	m.mu.Unlock()
	return classic.New(classic.Machine{ProcNet: procNet, Ioctl: k.ioctl, Dial: func() (*pfkey.Conn, error) {
		if k.socketErr != nil {
			return nil, errors.Join(errors.New("open a PF_KEY socket"), k.socketErr)
		}
		return pfkey.Dial(m.path)
	}})
}
