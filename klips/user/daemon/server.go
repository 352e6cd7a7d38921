package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/engine"
)

type server struct {
	eng     *engine.Engine
	log     *slog.Logger
	clock   clock.Clock
	stop    func()
	removes atomic.Bool // remove the devices at the end
	started time.Time
	rundir  string
	version string
	marks   *marksState
	mtu     func(device string) (int, error) // MTU of a device as the system shows it; may be nil

	guards  *guards
	clients clients
	counted func(change int) // see Config.Clients; may be nil
	seq     atomic.Uint32    // of the last message sent without a request

	turn turn // for changes by clients, one after the other

	// changes is held from carrying out a change until its messages are queued, so that
	// all clients receive messages in the order of the changes.
	changes sync.Mutex
	// gone: the state has been handed over to the next daemon. It is set with changes
	// held.
	gone   atomic.Bool
	place  *Place
	rights func() confine.Rights // may be nil
	// descriptors returns copies of the descriptors of devices and sockets; nil: there
	// are none.
	descriptors func() ([]int, error)
	// offerPorts gives the host UDP sockets for the ports of SAs, and owns them; nil: the
	// host takes none.
	offerPorts func(fds []int)
}

// slow logs once that broadcasts to a client were dropped. For a client that did not
// register this is no loss: commands read only their answers.
func (s *server) slow(c *client) {
	if c.registered != 0 {
		// Packets may wait for this call, so it does not wait for the log.
		go s.log.Warn("a client reads too slowly; broadcasts to it are dropped", "pid", c.pid)
	}
}

// serve accepts clients until ctx ends, and returns when all have gone.
func (s *server) serve(ctx context.Context, ln *net.UnixListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { ln.Close() })
	s.watchIdle(ctx)
	for {
		c, err := ln.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && s.gone.Load(): // new clients wait for the next daemon
			<-ctx.Done()
			return nil
		case err != nil: // most likely out of descriptors: close an idle client first
			s.log.Warn("accept", "err", err)
			if out := s.clients.evict(); out != nil {
				out.hangUp()
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		wg.Go(func() {
			defer c.Close()
			unblock := context.AfterFunc(ctx, func() { c.Close() })
			defer unblock()
			s.serveClient(ctx, c)
		})
	}
}

// serveClient answers one client until it goes or the server stops.
func (s *server) serveClient(ctx context.Context, conn *net.UnixConn) {
	cred, err := allowed(conn)
	if err != nil {
		s.log.Warn("client refused", "err", err)
		return
	}
	c := newClient(conn, cred, s.clock)
	if s.counted != nil {
		s.counted(1)
		defer s.counted(-1)
	}
	defer c.close()
	s.admit(c)
	defer s.clients.leave(c)
	defer s.turn.gone(c)
	buf := make([]byte, pfkey.MaxMessage+1)
	defer clear(buf) // it contained keys
	for ctx.Err() == nil {
		n, fds, err := receive(conn, buf)
		c.files = fds
		if err != nil || n == 0 {
			c.closeFiles()
			return
		}
		c.touch()
		err = s.answerAll(ctx, c, buf[:n])
		clear(buf[:n])
		c.closeFiles()
		if c.changed {
			c.changed = false
			s.guards.changed()
			s.place.count(s.eng.Count())
		}
		if err != nil {
			s.log.Warn("client lost", "pid", c.pid, "err", err)
			return
		}
	}
}

// maxFiles is the maximum number of descriptors in a request: the sockets for UDP ports
// of an SA, for both families.
const maxFiles = 4

// receive reads a request and its descriptors.
func receive(conn *net.UnixConn, buf []byte) (n int, fds []int, err error) {
	var space [64]byte // unix.CmsgSpace(4 * maxFiles) or more
	oob := space[:unix.CmsgSpace(4*maxFiles)]
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	return n, pfkey.Descriptors(oob[:oobn]), err
}

// allowed checks that the client runs as the same user or as root. The socket's mode
// already ensures that, but an administrator may change modes. It returns the client's
// credentials.
func allowed(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	if cerr != nil {
		return nil, cerr
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return nil, os.ErrPermission
	}
	return cred, nil
}
