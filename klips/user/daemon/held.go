package daemon

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/control"
)

// A Held is what a daemon has handed over, until the next one takes it. It is for a daemon
// that a service manager runs: the manager starts the next one only when that one has ended,
// so none of them could ask the other.
//
// It has the descriptors of the daemon's devices and sockets, so packets and clients wait
// for the next daemon. If this process ends before that, the daemon's state is lost; its
// devices stay and drop the packets that are routed into them.
type Held struct {
	dir  *user.Dir
	ln   *net.UnixListener
	fds  []int // as [user.Client.HandOver] returns them
	gave atomic.Bool
}

// Hold asks the daemon in a run directory for its whole state. The daemon then ends. The
// errors are those of [user.OpenDir], [user.Dial] and [user.Client.HandOver]; with an error
// the daemon goes on, unless it is lost on the way.
func Hold(ctx context.Context, rundir string) (_ *Held, err error) {
	h := new(Held)
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	if h.dir, err = user.OpenDir(rundir); err != nil {
		return nil, err
	}
	// The socket is there before the daemon ends, for whoever starts the next one then.
	if h.ln, err = h.dir.ListenHeld(); err != nil {
		return nil, err
	}
	c, err := user.Dial(user.SocketPath(rundir))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	h.fds, err = c.HandOver(ctx)
	return h, err
}

// Pass gives everything to the next daemon, once. It waits for it until ctx ends, and then
// returns the error of ctx.
func (h *Held) Pass(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = h.ln.SetDeadline(time.Unix(1, 0)) })() // long past
	for {
		c, err := h.ln.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		}
		err = h.answer(c)
		c.Close()
		if h.gave.Load() {
			return err
		}
	}
}

// Gave reports whether Pass has given everything away. What was given is never given again:
// the daemon that got it may have used its sequence numbers.
func (h *Held) Gave() bool { return h.gave.Load() }

// answerPatience is how long a client may take to ask.
const answerPatience = 2 * time.Second

// answer answers the request of one client. Only a daemon of root gets keys, or one of the
// user of this process.
func (h *Held) answer(c *net.UnixConn) error {
	if _, err := allowed(c); err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(answerPatience))
	buf := make([]byte, pfkey.MaxMessage)
	n, sent, err := receive(c, buf)
	closeAll(sent)
	if err != nil {
		return err
	}
	m, err := pfkey.Parse(buf[:n])
	if err != nil {
		return err
	}
	reply := pfkey.Ack(m.Header)
	var fds []int
	switch {
	case m.Type != control.TypeHandOver:
		reply = pfkey.ErrorReply(m.Header, unix.EINVAL)
	case elsewhere(m):
		reply = pfkey.ErrorReply(m.Header, unix.EXDEV)
	default:
		fds = h.fds
	}
	b, err := reply.Marshal()
	if err != nil {
		return err
	}
	h.gave.Store(len(fds) > 0)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err = c.WriteMsgUnix(b, rights, nil); err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	return nil
}

// Close forgets what there is, and removes the socket.
func (h *Held) Close() {
	closeAll(h.fds)
	if h.ln != nil {
		h.ln.Close()
		_ = h.dir.RemoveHeld() // otherwise the next daemon removes it
	}
	if h.dir != nil {
		h.dir.Close()
	}
}
