package daemon

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/netns"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/handover"
	"github.com/klips-go/ipsec/klips/user/host"
)

// A daemon hands everything over to the next one on request, and ends. It first stops its
// packet path, so that no sequence number is used after it has been written down. From
// then on it changes nothing. If the handover fails after that, neither daemon has SAs;
// the devices stay and drop the packets that are routed into them.
//
// The copies of the descriptors keep the queues of devices and sockets alive, so that
// the next daemon gets the packets that arrive meanwhile.

// handOver answers a request for the daemon's whole state.
func (s *server) handOver(c *client, m *pfkey.Message) error {
	refuse := func(err error) error { return s.publish(c, toSender(pfkey.ErrorReply(m.Header, pfkey.Errno(err)))) }
	// A client that is not root may change SAs, but must not learn keys.
	if !c.root {
		return refuse(syscall.EPERM)
	}
	if elsewhere(m) {
		return refuse(syscall.EXDEV)
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	if s.gone.Load() {
		return refuse(syscall.ESHUTDOWN)
	}
	fds, err := s.copies()
	defer closeAll(fds)
	if err != nil {
		s.log.Error("nothing can be handed over", "err", err)
		return refuse(err)
	}
	s.guards.handOver()
	s.gone.Store(true)
	s.place.handedOver = true
	defer s.stop()
	_ = s.place.listener.SetDeadline(time.Unix(1, 0)) // long past
	state := s.eng.HandOver()
	if state == nil {
		return refuse(syscall.ESHUTDOWN)
	}
	file, err := handover.Seal(state)
	state.Clear()
	if err != nil {
		s.log.Error("what there was cannot be handed over and is lost", "err", err)
		return refuse(err)
	}
	defer file.Close()
	answer, err := pfkey.Ack(m.Header).Marshal()
	if err != nil {
		return err
	}
	s.log.Info("handed over", "to", c.pid, "sas", len(state.SAs.SAs), "eroutes", len(state.Eroutes))
	return sent(c.waitAtMost(c.answerWith(answer, append([]int{int(file.Fd())}, fds...)), listTimeout))
}

// elsewhere reports whether a client is in another network namespace, where this
// daemon's devices and sockets are of no use. It returns false if that cannot be found
// out.
func elsewhere(m *pfkey.Message) bool {
	here, err := netns.Inode()
	there := control.NamespaceOf(m)
	return err == nil && there != 0 && here != there
}

// copies returns copies of the descriptors that are part of a handover: the daemon's
// own socket first, then those of the host's devices and sockets.
func (s *server) copies() (fds []int, err error) {
	fd, err := s.place.socket()
	if err != nil {
		return nil, err
	}
	fds = append(fds, fd)
	if s.descriptors != nil {
		more, err := s.descriptors()
		if err != nil {
			return fds, err
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// adopt makes this process the owner of another daemon's listening socket: clients that
// connect from now on get its process number and user (SO_PEERCRED in unix(7)). They end
// a daemon by its number.
func adopt(socket *os.File) (*net.UnixListener, error) {
	ln, err := listener(socket)
	if err != nil {
		return nil, err
	}
	if err := unix.Listen(int(socket.Fd()), unix.SOMAXCONN); err != nil {
		ln.Close()
		return nil, os.NewSyscallError("listen", err)
	}
	return ln, unix.SetNonblock(int(socket.Fd()), true) // Fd has set both to blocking
}

// listener makes a listener with a copy of a socket.
func listener(socket *os.File) (*net.UnixListener, error) {
	ln, err := net.FileListener(socket)
	if err != nil {
		return nil, err
	}
	u, ok := ln.(*net.UnixListener)
	if !ok {
		ln.Close()
		return nil, fmt.Errorf("%w: its socket is none of a daemon", handover.ErrFormat)
	}
	u.SetUnlinkOnClose(false)
	return u, nil
}

// openHost opens this machine, with the descriptors that another daemon has given.
func openHost(fds []int) (*host.Host, error) {
	if len(fds) == 0 {
		return host.Open()
	}
	return host.Inherit(fds)
}

// resume makes an engine with a state, which may be nil, and clears the state.
func resume(h engine.Host, c engine.Config, state *handover.State) (*engine.Engine, error) {
	c.State = state
	if state != nil {
		defer state.Clear()
	}
	return engine.New(h, c)
}
