// Package udpport holds UDP ports on which a kernel's stack accepts UDP-encapsulated
// ESP (RFC 3948). A kernel needs a socket to receive it, but not to send it.
package udpport

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Port is a UDP port that is held. Packets to it that are not ESP are dropped.
type Port struct{ sockets []int }

// A Prepare makes the kernel accept UDP-encapsulated ESP on a socket. It calls bind
// once, before or after. EAFNOSUPPORT: the kernel does not accept sockets of this
// family, AF_INET or AF_INET6.
type Prepare func(socket, family int, bind func() error) error

// Open opens a port in the network namespace of the calling thread, for IPv4 and, if
// the host and the stack have it, IPv6. EADDRINUSE: another program has the port.
func Open(port uint16, prepare Prepare) (*Port, error) {
	p := &Port{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := open(family, port, prepare)
		if errors.Is(err, syscall.EAFNOSUPPORT) && family == unix.AF_INET6 {
			break
		}
		if err != nil {
			p.Close()
			return nil, err
		}
		p.sockets = append(p.sockets, fd)
	}
	return p, nil
}

func open(family int, port uint16, prepare Prepare) (fd int, err error) {
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if family == unix.AF_INET6 {
		sa = &unix.SockaddrInet6{Port: int(port)}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return -1, err
		}
	}
	// No program reads other packets, so the smallest buffer is enough.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0); err != nil {
		return -1, err
	}
	return fd, prepare(fd, family, func() error { return unix.Bind(fd, sa) })
}

// IPv6 reports whether the port is held for IPv6, too.
func (p *Port) IPv6() bool { return len(p.sockets) > 1 }

// Close closes the port.
func (p *Port) Close() error {
	var err error
	for _, fd := range p.sockets {
		err = errors.Join(err, unix.Close(fd))
	}
	p.sockets = nil
	return err
}

// Ports are ports that are held together. The zero Ports holds none. Its methods may be
// called from several goroutines.
type Ports struct {
	mu   sync.Mutex
	list []*Port
}

// Add adds an open port.
func (l *Ports) Add(p *Port) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, p)
}

// Close closes all ports.
func (l *Ports) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, p := range l.list {
		errs = append(errs, p.Close())
	}
	l.list = nil
	return errors.Join(errs...)
}

// Taken reports whether a program uses a UDP port, according to the tables udp and udp6
// in a directory such as /proc/net.
func Taken(procNet string, port uint16) (bool, error) {
	for _, name := range []string{"udp", "udp6"} {
		b, err := os.ReadFile(filepath.Join(procNet, name))
		if errors.Is(err, fs.ErrNotExist) && name == "udp6" {
			break // a host without IPv6
		}
		if err != nil {
			return false, err
		}
		for line := range bytes.Lines(b) {
			// sl local_address rem_address ..., where an address ends in :PORT.
			f := bytes.Fields(line)
			if len(f) < 2 {
				continue
			}
			_, text, ok := bytes.Cut(f[1], []byte(":"))
			if n, err := strconv.ParseUint(string(text), 16, 16); ok && err == nil && uint16(n) == port {
				return true, nil
			}
		}
	}
	return false, nil
}

// Reason returns the reason why a port could not be bound, as text; empty if the errno
// is clear enough.
func Reason(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has it; if that is a key daemon, it takes ESP out of UDP already"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 are for root"
	}
	return ""
}
