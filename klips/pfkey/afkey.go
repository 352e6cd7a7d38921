package pfkey

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// keyV2 is PF_KEY_V2, the protocol of PF_KEY sockets (RFC 2367 section 1.3).
const keyV2 = 2

// Open opens a PF_KEY socket of this kernel (RFC 2367 section 1.3). Errors are those of
// socket(2): EAFNOSUPPORT if the kernel has no PF_KEY, EPERM or EACCES without
// CAP_NET_RAW and CAP_NET_ADMIN, EPROTONOSUPPORT, ESOCKTNOSUPPORT, ENOMEM.
//
// The kernel's own af_key uses the same domain as KLIPS and gives message types above
// 12 another meaning. Only the caller can know which of the two it is.
func Open() (*Conn, error) {
	c, err := socket.Socket(unix.AF_KEY, unix.SOCK_RAW, keyV2, "pfkey", nil)
	if err != nil {
		return nil, fmt.Errorf("open a PF_KEY socket: %w", err)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		// KLIPS refuses to receive from a non-blocking socket (EOPNOTSUPP). The runtime
		// still waits for the socket; recv polls it before it reads.
		cerr := raw.Control(func(fd uintptr) { err = unix.SetNonblock(int(fd), false) })
		err = errors.Join(cerr, err)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("open a PF_KEY socket: %w", err)
	}
	return newConn(&keySocket{c, raw}), nil
}

// A keySocket is an AF_KEY socket. KLIPS returns the result of a request as the errno
// of write, and before that queues a message for every open socket. af_key reports the
// result only in the message.
type keySocket struct {
	c   *socket.Conn
	raw syscall.RawConn
}

func (k *keySocket) send(b []byte, _ []int) (err error) {
	cerr := k.raw.Write(func(fd uintptr) bool {
		var n int
		for {
			if n, err = unix.Write(int(fd), b); err != unix.EINTR {
				break
			}
		}
		if err == nil && n != len(b) {
			err = unix.EMSGSIZE
		}
		return true
	})
	if cerr != nil {
		return cerr
	}
	return err
}

func (k *keySocket) recv(buf []byte) (n int, err error) {
	cerr := k.raw.Read(func(fd uintptr) bool {
		if !readable(fd) {
			return false // wait
		}
		var flags int
		n, _, flags, _, err = unix.Recvmsg(int(fd), buf, nil, 0)
		if err == nil && flags&unix.MSG_TRUNC != 0 {
			n, err = 0, fmt.Errorf("a message is longer than %d bytes: %w", len(buf), syscall.EMSGSIZE)
		}
		return err != unix.EINTR
	})
	if cerr != nil {
		return 0, cerr
	}
	return n, err
}

func readable(fd uintptr) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p[:], 0)
	return n > 0 && err == nil
}

// answers: for all other types the errno of write is the result.
func (k *keySocket) answers(t Type) bool {
	switch t {
	case TypeGetSPI, TypeGet, TypeRegister, TypePlumbIf, TypeUnplumbIf:
		return true
	}
	return false
}

func (k *keySocket) ready() (ready bool) {
	_ = k.raw.Control(func(fd uintptr) { ready = readable(fd) })
	return ready
}

func (k *keySocket) setDeadline(t time.Time) error { return k.c.SetDeadline(t) }
func (k *keySocket) close() error                  { return k.c.Close() }
