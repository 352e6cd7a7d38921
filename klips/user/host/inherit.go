package host

import (
	"os"

	"golang.org/x/sys/unix"
)

// A daemon passes its descriptors to the next one, which then gets the packets queued
// in TUN devices and sockets, including those queued while neither daemon reads.

// inherited are another process's descriptors that have not been used yet.
type inherited struct {
	links   map[string]int // TUN devices, by name
	sockets []int
}

// maxDescriptors is the maximum number of descriptors in a message over a unix socket
// (SCM_MAX_FD in Linux), less one for the state.
const maxDescriptors = 253 - 1

// Descriptors returns copies of the descriptors of open TUN devices and of the
// receiver's sockets, at most maxDescriptors. If there are hundreds of UDP ports for
// ESP, the next Host must open some again. The caller closes the descriptors.
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

// descriptor returns a copy of the device's descriptor.
func (l *link) descriptor() (fd int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fd, err = unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, os.NewSyscallError("dup", err)
}

// Inherit is Open for a Host that continues with the descriptors of another one, and
// owns them.
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
	ifr, err := unix.NewIfreq("ipsec0") // the kernel overwrites the name
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
