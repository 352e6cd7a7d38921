package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// maxClients is how many connections are served at the same time.
const maxClients = 256

// writeTimeout is how long a client may leave its answer unread.
const writeTimeout = 10 * time.Second

type server struct {
	eng     *engine.Engine
	log     *slog.Logger
	stop    func()
	started time.Time
	rundir  string
	version string
}

// serve accepts clients until ctx ends, and returns when all are gone.
func (s *server) serve(ctx context.Context, ln *net.UnixListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { ln.Close() })
	slots := make(chan struct{}, maxClients)
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
		case err != nil: // out of descriptors, most likely: let clients go first
			s.log.Warn("accept", "err", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			s.log.Warn("too many clients", "limit", maxClients)
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			unblock := context.AfterFunc(ctx, func() { c.Close() })
			defer unblock()
			s.client(ctx, c)
		})
	}
}

// client answers one client until it goes or the server stops.
func (s *server) client(ctx context.Context, c *net.UnixConn) {
	if err := allowed(c); err != nil {
		s.log.Warn("client refused", "err", err)
		return
	}
	buf := make([]byte, pfkey.MaxMessage+1)
	defer clear(buf) // there were keys in it
	for ctx.Err() == nil {
		n, err := c.Read(buf)
		if err != nil || n == 0 {
			return
		}
		send := func(m *pfkey.Message) error {
			out, err := m.Marshal()
			if err != nil {
				s.log.Error("reply", "type", m.Type, "err", err)
				return err
			}
			_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
			_, err = c.Write(out)
			return err
		}
		err = s.answer(ctx, buf[:n], send)
		clear(buf[:n])
		if err != nil {
			s.log.Warn("client lost", "err", err)
			return
		}
	}
}

// allowed checks that the client is run by the same user or by root. The socket's
// mode says the same, but modes of directories get changed.
func allowed(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if cerr != nil {
		return cerr
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return os.ErrPermission
	}
	return nil
}
