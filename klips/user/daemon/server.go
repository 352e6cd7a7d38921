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
	"github.com/klips-go/ipsec/klips/user/engine"
)

type server struct {
	eng     *engine.Engine
	log     *slog.Logger
	clock   clock.Clock
	stop    func()
	removes atomic.Bool // devices go with the daemon
	started time.Time
	rundir  string
	version string
	marks   *marksState
	mtu     func(device string) (int, error) // as the system shows it; nil: it shows none

	guards   *guards
	audience audience
	seq      atomic.Uint32 // of the last message that nobody asked for

	turn turn // clients change things one after the other

	// changes is held from carrying out a request that changes something to queueing
	// the messages, so that all hear of changes in their order.
	changes sync.Mutex
	// gone: what there was is the next daemon's. It is set with changes held.
	gone     atomic.Bool
	listener *net.UnixListener
	// descriptors returns copies of those of devices and sockets; nil: there are none.
	descriptors func() ([]int, error)
}

// deaf tells once of a client that messages were dropped for. For one that did
// not register that is no loss: commands listen for their answers only.
func (s *server) deaf(p *peer) {
	if p.registered != 0 {
		// Packets may wait for this, so they do not wait for the log.
		go s.log.Warn("a client does not read what is sent to all; some of it was dropped", "pid", p.pid)
	}
}

// serve accepts clients until ctx ends, and returns when all are gone.
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
		case err != nil && s.gone.Load(): // who connects now waits for the next daemon
			<-ctx.Done()
			return nil
		case err != nil: // out of descriptors, most likely: let clients go first
			s.log.Warn("accept", "err", err)
			if out := s.audience.evict(); out != nil {
				out.hangUp()
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		wg.Go(func() {
			defer c.Close()
			unblock := context.AfterFunc(ctx, func() { c.Close() })
			defer unblock()
			s.client(ctx, c)
		})
	}
}

// client answers one client until it goes or the server stops.
func (s *server) client(ctx context.Context, c *net.UnixConn) {
	cred, err := allowed(c)
	if err != nil {
		s.log.Warn("client refused", "err", err)
		return
	}
	p := newPeer(c, cred, s.clock)
	defer p.close()
	s.admit(p)
	defer s.audience.leave(p)
	defer s.turn.gone(p)
	buf := make([]byte, pfkey.MaxMessage+1)
	defer clear(buf) // there were keys in it
	for ctx.Err() == nil {
		n, err := c.Read(buf)
		if err != nil || n == 0 {
			return
		}
		p.touch()
		err = s.answer(ctx, p, buf[:n])
		clear(buf[:n])
		if err != nil {
			s.log.Warn("client lost", "pid", p.pid, "err", err)
			return
		}
	}
}

// allowed checks that the client is run by the same user or by root. The socket's
// mode says the same, but modes of directories get changed. It returns who the client
// is.
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
