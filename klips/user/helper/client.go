package helper

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Client is the daemon's end. Its methods may be called from any goroutine.
type Client struct{ c *net.UnixConn }

// Pair returns the two ends of a socket: the daemon's, for [NewClient], and the
// helper's, for [Serve].
func Pair() (client, server *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "helper"), os.NewFile(uintptr(fds[1]), "helper"), nil
}

// NewClient makes a Client of the daemon's end of a socket, which it closes.
func NewClient(f *os.File) (*Client, error) {
	c, err := conn(f)
	if err != nil {
		return nil, err
	}
	return &Client{c}, nil
}

// Close makes the helper end.
func (c *Client) Close() error { return c.c.Close() }

// Moved tells the helper that addresses or the default route have changed, and returns
// when it has done what that needs. If ctx ends before, the helper takes back what it
// has begun, and Moved returns after that.
func (c *Client) Moved(ctx context.Context) error {
	_, err := c.call(ctx, request{kind: kindMoved}, 0)
	return err
}

// Port opens a UDP port, like [rawip.TakePort]; the caller closes it.
func (c *Client) Port(family int, port uint16) (fd int, err error) {
	return c.open(request{kind: kindPort, family: family, port: port})
}

// TUN opens the file for TUN devices, like [host.OpenTUN]; the caller closes it.
func (c *Client) TUN() (fd int, err error) { return c.open(request{kind: kindTUN}) }

// open requests a descriptor.
func (c *Client) open(r request) (fd int, err error) {
	fd, err = c.call(context.Background(), r, patience)
	if err == nil && fd < 0 {
		err = syscall.EPROTO
	}
	return fd, err
}

// Remove removes the daemon's files: that of the lock and, if socket is true, the
// socket.
func (c *Client) Remove(socket bool) error {
	_, err := c.call(context.Background(), request{kind: kindRemove, socket: socket}, patience)
	return err
}

// call sends a request and waits for the answer; limit 0: as long as it takes.
func (c *Client) call(ctx context.Context, r request, limit time.Duration) (fd int, err error) {
	own, theirs, err := pair()
	if err != nil {
		return -1, err
	}
	defer own.Close()
	_, _, err = c.c.WriteMsgUnix(r.encode(), unix.UnixRights(int(theirs.Fd())), nil)
	theirs.Close()
	if err != nil {
		return -1, err
	}
	// The helper sees the end of the requests, and still answers.
	defer context.AfterFunc(ctx, func() { _ = own.CloseWrite() })()
	if limit > 0 {
		_ = own.SetReadDeadline(time.Now().Add(limit))
	}
	b, fd, err := read(own, answerLen)
	if err != nil {
		return -1, err
	}
	if len(b) != answerLen {
		err = syscall.EPROTO
	} else if errno := syscall.Errno(binary.BigEndian.Uint32(b)); errno != 0 {
		err = errno
	}
	if err != nil && fd >= 0 {
		unix.Close(fd)
		fd = -1
	}
	return fd, err
}
