package metrics

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A place is where metrics are served: a TCP address, or the path of a Unix socket.
type place struct {
	tcp  netip.AddrPort
	path string // empty: tcp
}

// maxPath is how long the path of a Unix socket may be, in bytes (unix(7)).
const maxPath = 107

// parsePlace parses [HOST]:PORT or unix:PATH. Without a host only this machine can connect.
func parsePlace(text string, r syntax.Resolver) (p place, err error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		switch {
		case path == "":
			return p, cli.Usagef("--listen unix: has no path; the socket needs one, as in unix:/run/ipsec-metrics.sock")
		case len(path) > maxPath:
			return p, cli.Usagef("--listen %s: the path has %d bytes, and that of a socket can have %d", quote.Value(text), len(path), maxPath)
		}
		return place{path: path}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return p, cli.Usagef("--listen %s: want [HOST]:PORT or unix:PATH, as in :9471, [::1]:9471 or unix:/run/ipsec-metrics.sock", quote.Value(text))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return p, cli.Usagef("--listen %s: %s is not a TCP port, 0 to 65535", quote.Value(text), quote.Value(port))
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if host != "" {
		if addr, err = netip.ParseAddr(host); err != nil { // it may have a zone
			if addr, err = syntax.ParseAddr(host, syntax.FamilyAny, r); err != nil {
				return p, cli.Usagef("--listen %s: host %s: %w", quote.Value(text), quote.Value(host), err)
			}
		}
	}
	return place{tcp: netip.AddrPortFrom(addr, uint16(n))}, nil
}

// listen listens at the place. Only this user can connect to a Unix socket; it is removed
// when the listener is closed.
func (p place) listen() (net.Listener, error) {
	var l net.Listener
	var err error
	if p.path != "" {
		l, err = listenUnix(p.path)
	} else {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(p.tcp))
	}
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %s", p, listenFault(err))
	}
	return l, nil
}

// String returns the place in the form of the option.
func (p place) String() string {
	if p.path != "" {
		return "unix:" + p.path
	}
	return p.tcp.String()
}

// at returns the place of a listener: the kernel may have chosen its port.
func (p place) at(l net.Listener) place {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		p.tcp = a.AddrPort()
	}
	return p
}

// errServed is the error for a Unix socket that another program serves.
var errServed = errors.New("another program serves there; choose another path")

// listenUnix listens on a Unix socket with the mode 0600. A socket that nobody serves any
// more, because its server was killed, is replaced.
func listenUnix(path string) (net.Listener, error) {
	// Without the mask, others could connect before a change of the mode.
	defer unix.Umask(unix.Umask(0o177))
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	l, err := net.ListenUnix("unix", addr)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, errors.New("a file that is no socket has this path; choose another path")
	}
	c, err := net.DialUnix("unix", nil, addr)
	if err == nil {
		c.Close()
		return nil, errServed
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.ListenUnix("unix", addr)
}

// listenFault returns what is wrong with a place, and how to mend it.
func listenFault(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	switch errno {
	case syscall.EADDRINUSE:
		return "another program has this port; choose another one"
	case syscall.EADDRNOTAVAIL:
		return "this host does not have the address; ip addr lists those that it has"
	case syscall.EACCES:
		return "not permitted; run it as root, or choose a port above 1023 or a folder of your own"
	case syscall.ENOENT, syscall.ENOTDIR:
		return "the folder does not exist; make it, or choose another path"
	}
	return explain.Reason(errno)
}
