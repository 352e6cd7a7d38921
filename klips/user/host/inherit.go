package host

import (
	"errors"

	"golang.org/x/sys/unix"
)

// A daemon gives its descriptors to the next one: what is queued in TUN devices and
// sockets is there for it then, and so is what is queued while neither reads.

// inherited are descriptors of another process that have not been used yet.
type inherited struct {
	links   map[string]int // TUN devices, by name
	sockets []int
}

// maxDescriptors is how many descriptors one message over a unix socket carries at most
// (SCM_MAX_FD in Linux), but one: the state goes with them.
const maxDescriptors = 253 - 1

// Descriptors returns copies of the descriptors of TUN devices and of the receiver's
// sockets that are open, maxDescriptors at most: of hundreds of UDP ports that are kept
// for ESP, some are taken again by the next Host. The caller closes them.
func (h *Host) Descriptors() (fds []int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.links {
		fd, err := l.descriptor()
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, fd)
	}
	if h.receiver != nil {
		sockets, err := h.receiver.Sockets()
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, sockets...)
	}
	if len(fds) > maxDescriptors {
		closeAll(fds[maxDescriptors:])
		fds = fds[:maxDescriptors]
	}
	return fds, nil
}

// descriptor returns a copy of the device's descriptor. (File.Fd would make it block,
// and Close would not end a Read any more.)
func (l *link) descriptor() (fd int, err error) {
	c, err := l.File().SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := c.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(cerr, err)
}

// Inherit is Open for a Host that goes on with the descriptors of another one, which
// belong to it from now on.
func Inherit(fds []int) (*Host, error) {
	h, err := Open()
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	h.inherited.links = map[string]int{}
	for _, fd := range fds {
		if name, ok := tunName(fd); ok {
			h.inherited.links[name] = fd
		} else {
			h.inherited.sockets = append(h.inherited.sockets, fd)
		}
	}
	return h, nil
}

// tunName returns the name of the TUN device behind a descriptor.
func tunName(fd int) (name string, ok bool) {
	ifr, err := unix.NewIfreq("ipsec0") // the kernel writes the name into it
	if err != nil || unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr) != nil {
		return "", false
	}
	return ifr.Name(), true
}

func (i *inherited) close() {
	for _, fd := range i.links {
		unix.Close(fd)
	}
	closeAll(i.sockets)
	i.links, i.sockets = nil, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
