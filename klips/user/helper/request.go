package helper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A kind is the first byte of a request.
type kind byte

const (
	kindMoved  kind = 'm' // addresses or the default route have changed
	kindPort   kind = 'p' // open a UDP port: family and port follow
	kindTUN    kind = 't' // open the file for TUN devices
	kindRemove kind = 'r' // remove the files; 1 follows if the socket is one of them
)

// A request is a kind and its arguments, as they are sent.
type request struct {
	kind   kind
	family int
	port   uint16
	socket bool
}

// requestLen is the length of a request in bytes.
const requestLen = 6

func (r request) encode() []byte {
	b := []byte{byte(r.kind), 0}
	if r.socket {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint16(b, uint16(r.family))
	return binary.BigEndian.AppendUint16(b, r.port)
}

// errRequest means that bytes are no request.
var errRequest = errors.New("not a request")

func decode(b []byte) (request, error) {
	if len(b) != requestLen {
		return request{}, errRequest
	}
	r := request{kind(b[0]), int(binary.BigEndian.Uint16(b[2:])), binary.BigEndian.Uint16(b[4:]), b[1] == 1}
	switch {
	case b[1] > 1:
		return request{}, errRequest
	case r.kind == kindPort && (r.family == unix.AF_INET || r.family == unix.AF_INET6) && r.port != 0:
	case r.kind == kindMoved, r.kind == kindTUN, r.kind == kindRemove:
	default:
		return request{}, errRequest
	}
	return r, nil
}

// An answer is an errno, 0 for success, and may have a descriptor.
const answerLen = 4

// pair returns the two ends of a socket that keeps the bounds of messages.
func pair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "helper")
	ours, err = conn(os.NewFile(uintptr(fds[0]), "helper"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// conn makes a connection of a socket, which it closes.
func conn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%s: not a unix socket", f.Name())
	}
	return u, nil
}

// read reads a message of at most size bytes and its descriptor, which is -1 if there
// is none.
func read(c *net.UnixConn, size int) (b []byte, fd int, err error) {
	b, oob := make([]byte, size+1), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, -1, err
	}
	fd = -1
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, -1, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, got := range fds {
			if fd >= 0 {
				unix.Close(got)
				continue
			}
			fd = got
		}
	}
	if n == 0 {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, -1, os.ErrClosed
	}
	return b[:n], fd, nil
}

// respond sends an answer. It does not wait: an answer fits the socket.
func respond(c *net.UnixConn, err error, fd int) {
	var errno syscall.Errno
	switch {
	case err == nil:
	case !errors.As(err, &errno):
		errno = syscall.EIO
	}
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	_, _, _ = c.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(errno)), oob, nil)
}

// patience is how long a short request may take.
const patience = 10 * time.Second
