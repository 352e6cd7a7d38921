package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/handover"
)

// A Place is a daemon's place in its run directory. It has the lock that makes it the
// only daemon there, its socket, and the state of the daemon before it. A Place can be
// passed to another program, which may have fewer rights: [Adopt] opens no file.
type Place struct {
	rundir   string
	dir      *user.Dir
	lock     *os.File
	listener *net.UnixListener // its backlog has the clients that connect before Run
	lost     user.Counts
	counting sync.Mutex
	counts   *os.File
	counted  user.Counts // what counts has
	// state is what another daemon had, see [handover.Open]; nil: nothing.
	state *os.File
	fds   []int // the other daemon's devices and sockets
	// handedOver: the socket belongs to the next daemon.
	handedOver bool
}

// Take takes the place in a run directory, which it makes with mode 0700 if it does not
// exist. takeOver: it takes over everything from the daemon that runs there, which then
// ends. Without takeOver it takes what a [Held] has there.
//
// If another daemon has the run directory, the error is a *[user.Running]; if the
// directory cannot be trusted, a *[user.RundirError]; if the other daemon does not hand
// over, that of [user.Client.HandOver].
func Take(ctx context.Context, rundir string, takeOver bool) (_ *Place, err error) {
	dir, err := user.MakeDir(rundir)
	if err != nil {
		return nil, err
	}
	p := &Place{rundir: rundir, dir: dir}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	waits := lockPatience
	if takeOver {
		if err := p.takeOver(ctx, user.SocketPath(rundir)); err != nil {
			return nil, err
		}
		waits = takeOverPatience
	}
	patience, cancel := context.WithTimeout(ctx, waits)
	defer cancel()
	if p.lock, err = dir.TakeLock(patience); err != nil {
		return nil, err
	}
	if !takeOver {
		if err = p.takeHeld(ctx); err != nil {
			return nil, err
		}
	}
	if p.listener == nil {
		// With the lock, no other daemon uses the socket that may be there.
		if p.listener, err = dir.Listen(); err != nil {
			return nil, err
		}
	}
	if p.counts, err = dir.OpenCounts(); err != nil {
		return nil, err
	}
	if p.state == nil {
		p.lost = user.ReadCounts(p.counts)
	}
	return p, user.WriteCounts(p.counts, user.Counts{})
}

// Lost returns what the daemon before this one had, if it has ended without a handover and
// without a stop.
func (p *Place) Lost() user.Counts { return p.lost }

// takeHeld takes what a [Held] has in the run directory, if there is one.
func (p *Place) takeHeld(ctx context.Context) error {
	err := p.takeOver(ctx, user.HeldPath(p.rundir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.ECONNREFUSED): // it was killed
		return p.dir.RemoveHeld()
	}
	return err
}

// takeOver asks who listens at a path in the run directory for a daemon's whole state.
func (p *Place) takeOver(ctx context.Context, path string) error {
	c, err := user.Dial(path)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, takeOverPatience)
	defer cancel()
	fds, err := c.HandOver(ctx)
	if err != nil {
		return err
	}
	if len(fds) < 2 {
		closeAll(fds)
		return fmt.Errorf("take over: %w: %d descriptors came with it", handover.ErrFormat, len(fds))
	}
	p.state, p.fds = os.NewFile(uintptr(fds[0]), "handover"), fds[2:]
	socket := os.NewFile(uintptr(fds[1]), "listener")
	defer socket.Close()
	if p.listener, err = adopt(socket); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	return nil
}

// count writes down what the daemon has. It is a help for people, so an error is none of the
// daemon's.
func (p *Place) count(sas, eroutes int) {
	p.counting.Lock()
	defer p.counting.Unlock()
	if c := (user.Counts{SAs: sas, Eroutes: eroutes}); c != p.counted && user.WriteCounts(p.counts, c) == nil {
		p.counted = c
	}
}

// Descriptors returns copies of the descriptors of a Place, for [Adopt]. The caller
// closes them.
func (p *Place) Descriptors() (fds []int, err error) {
	add := func(dup int, derr error) {
		if err = errors.Join(err, derr); derr == nil {
			fds = append(fds, dup)
		}
	}
	add(duplicate(p.dir.Fd()))
	add(duplicate(p.lock.Fd()))
	add(p.socket())
	add(duplicate(p.counts.Fd()))
	if p.state != nil {
		add(duplicate(p.state.Fd()))
		for _, fd := range p.fds {
			add(duplicate(uintptr(fd)))
		}
	}
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

// socket returns a copy of the descriptor of the socket.
func (p *Place) socket() (fd int, err error) {
	c, err := p.listener.SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := c.Control(func(own uintptr) { fd, err = duplicate(own) })
	return fd, errors.Join(cerr, err)
}

// duplicate returns a copy of a descriptor, which is no standard one and is closed on exec.
func duplicate(fd uintptr) (int, error) {
	dup, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	return dup, os.NewSyscallError("dup", err)
}

// Adopt makes a Place of its descriptors, which it owns from then on.
func Adopt(rundir string, fds []int) (*Place, error) {
	if len(fds) < 4 {
		closeAll(fds)
		return nil, fmt.Errorf("%d descriptors are no place in a run directory", len(fds))
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	p := &Place{
		rundir: rundir, dir: user.NewDir(os.NewFile(uintptr(fds[0]), rundir), rundir),
		lock: os.NewFile(uintptr(fds[1]), user.LockPath(rundir)), counts: os.NewFile(uintptr(fds[3]), "counts"),
	}
	socket := os.NewFile(uintptr(fds[2]), "listener")
	defer socket.Close()
	if len(fds) > 4 {
		p.state, p.fds = os.NewFile(uintptr(fds[4]), "handover"), fds[5:]
	}
	// Clients still get the user who has made the socket, as they expect.
	var err error
	if p.listener, err = listener(socket); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// open returns the state of the daemon before; nil: none. After that the Place no longer
// has it. The caller clears the state and owns the descriptors.
func (p *Place) open() (*handover.State, []int, error) {
	if p.state == nil {
		return nil, nil, nil
	}
	state, err := handover.Open(p.state)
	p.state.Close()
	fds := p.fds
	p.state, p.fds = nil, nil
	if err != nil {
		closeAll(fds)
		return nil, nil, fmt.Errorf("take over: %w", err)
	}
	return state, fds, nil
}

// Close gives up the place: it removes the lock and the socket, unless the socket belongs
// to the next daemon. A process that may not change the directory leaves the files; they
// have no effect without a process.
func (p *Place) Close() {
	if p.listener != nil {
		p.listener.Close()
	}
	if p.state != nil {
		p.state.Close()
	}
	closeAll(p.fds)
	if p.counts != nil {
		p.counts.Close()
	}
	if p.lock != nil {
		p.dir.RemoveFiles(!p.handedOver)
		p.lock.Close()
	}
	p.dir.Close()
}
