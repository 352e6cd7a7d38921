package followed

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/background"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user"
)

// A process of its own follows the default route, because the daemon may not do what
// that needs: it reads ipsec.conf and the keys, and changes routes. It runs as long as
// there are connections to follow, and a daemon.

// lockFile is in the directory of the connections. The process that follows holds a lock
// on it.
const lockFile = "follower.lock"

// When a process begins to follow.
const (
	Now  = "now"  // at once; it ends if another one follows
	Next = "next" // after the one that follows for the daemon before
)

// Start starts the process in the background. Its errors and notes go to log.
func Start(rundir, when string, log *os.File) error {
	cmd, err := background.Detached("manual", "--follow", when)
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, "IPSEC_STACK=user", "IPSEC_RUNDIR="+rundir)
	cmd.Stdout, cmd.Stderr = log, log
	return background.Launch(cmd)
}

// alone takes the lock of the process that follows. The error wraps syscall.EWOULDBLOCK
// if another process has it.
func alone(rundir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(rundir, directory, lockFile), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return f, nil
}

// earlier is how long [Next] waits for the process before, whose daemon has ended.
const earlier = 10 * time.Second

// Follow calls renew at once, and whenever an address, a device or the default route of
// the host has changed. It returns when the daemon of the run directory has ended, when
// there are no connections to follow any more, or when ctx ends; and if another process
// follows, see when.
func Follow(ctx context.Context, rundir, when string, renew func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		if dir, err := user.OpenDir(rundir); err == nil {
			dir.AwaitEnd()
			dir.Close()
		}
	}()
	for {
		last, err := follow(ctx, rundir, when, renew)
		if err != nil || !last || !Any(rundir) {
			return err
		}
		// A connection was added, and the process that was started for it may have found
		// the lock taken.
		when = Now
	}
}

// follow is Follow until there are no connections to follow any more; then last is true.
func follow(ctx context.Context, rundir, when string, renew func(context.Context)) (last bool, err error) {
	lock, err := alone(rundir)
	for end := time.Now().Add(earlier); when == Next && errors.Is(err, syscall.EWOULDBLOCK) && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(20 * time.Millisecond)
		lock, err = alone(rundir)
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK), errors.Is(err, fs.ErrNotExist): // another one, or no connections
		return false, nil
	case err != nil:
		return false, err
	}
	defer lock.Close()
	w, err := rtnl.Watch()
	if err != nil {
		return false, err
	}
	defer w.Close()
	changed, stop, err := watchDirectory(filepath.Join(rundir, directory))
	if err != nil {
		return false, err
	}
	defer stop()
	moved := make(chan struct{}, 1)
	moved <- struct{}{} // for what happened before
	go func() {
		for {
			news, err := w.Wait()
			switch {
			case errors.Is(err, unix.ENOBUFS): // anything may have changed
			case err != nil: // it was closed
				return
			case !news.Devices && !news.Default:
				continue
			}
			select {
			case moved <- struct{}{}:
			default: // a call is pending already
			}
		}
	}()
	for Any(rundir) {
		select {
		case <-ctx.Done():
			return false, nil
		case <-changed:
		case <-moved:
			renew(ctx)
		}
	}
	return true, nil
}

// watchDirectory returns a channel that has an element after a file of the directory was
// removed, or the directory, until stop is called.
func watchDirectory(path string) (_ <-chan struct{}, stop func() error, err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, os.NewSyscallError("inotify_init", err)
	}
	f := os.NewFile(uintptr(fd), "inotify") // Close ends a Read
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_DELETE|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF); err != nil {
		f.Close()
		return nil, nil, &fs.PathError{Op: "watch", Path: path, Err: err}
	}
	changed := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := f.Read(buf); err != nil {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, f.Close, nil
}
