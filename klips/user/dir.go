package user

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// A Dir is an open run directory. Its files are accessed through it, never through a
// symbolic link, so that a change of its path has no effect.
type Dir struct {
	f    *os.File
	path string
	turn *os.File // the file locked by [LockDir]; nil after OpenDir
}

// OpenDir opens a run directory. If it does not exist, errors.Is finds fs.ErrNotExist;
// if this user may not read it, fs.ErrPermission. A directory that cannot be trusted is
// a *[RundirError].
func OpenDir(path string) (*Dir, error) {
	path = filepath.Clean(path) // open(2) would follow a link before a slash
	if err := checkLength(path); err != nil {
		return nil, err
	}
	st, err := statAt(unix.AT_FDCWD, path, path)
	if err == nil {
		err = checkDir(path, st)
	}
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	d := &Dir{f: f, path: path}
	if st, err = statAt(d.fd(), ".", path); err == nil { // it may be another file by now
		err = checkDir(path, st)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// NewDir makes a Dir of a run directory that another process has opened. It owns the
// file; path is for errors.
func NewDir(f *os.File, path string) *Dir { return &Dir{f: f, path: path} }

// Fd returns the descriptor of the directory, which stays the Dir's.
func (d *Dir) Fd() uintptr { return d.f.Fd() }

// MakeDir opens a run directory, and makes it with mode 0700 if it does not exist;
// directories above it are made too. See [OpenDir] for the errors.
func MakeDir(path string) (*Dir, error) {
	path = filepath.Clean(path)
	if err := checkLength(path); err != nil {
		return nil, err
	}
	// MkdirAll accepts a link to a directory; OpenDir does not.
	if err := os.MkdirAll(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		if errors.Is(err, syscall.ENOTDIR) {
			return nil, notDirectory(path)
		}
		return nil, err
	}
	return OpenDir(path)
}

// notDirectory is the error for a path with a part that is not a directory.
func notDirectory(path string) error {
	for p := path; ; p = filepath.Dir(p) {
		fi, err := os.Stat(p)
		if err == nil && !fi.IsDir() || p == "/" {
			return &RundirError{Path: p, Fault: klips.FaultRundirKind, Err: syscall.ENOTDIR}
		}
	}
}

// maxRemoved is how often a directory may vanish between making and opening it; a
// dangling link in its path looks the same.
const maxRemoved = 100

// LockDir opens a run directory, which it makes if makeIt is true, and makes other
// callers of LockDir wait until the Dir is closed, so that commands that start and stop
// daemons take turns. It waits until ctx ends, and then returns the error of ctx. The
// lock is on a file in the directory, because other users could lock the directory
// itself. If the disk is full and no file can be made, LockDir succeeds without a lock:
// a daemon can still be stopped.
func LockDir(ctx context.Context, path string, makeIt bool) (*Dir, error) {
	open := OpenDir
	if makeIt {
		open = MakeDir
	}
	for try := 0; ; try++ {
		d, err := open(path)
		if err == nil {
			d.turn, err = d.lock(ctx, turnFile)
			if err == nil && d.current() || full(err) {
				return d, nil
			}
			d.Close()
		}
		switch {
		case err == nil: // it was removed during the wait
		case errors.Is(err, fs.ErrNotExist) && makeIt && try < maxRemoved:
		default:
			return nil, err
		}
	}
}

// full reports whether an error means that no file can be made.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// current reports whether the path still leads to the directory.
func (d *Dir) current() bool {
	own, err := statAt(d.fd(), ".", d.path)
	if err != nil {
		return false
	}
	there, err := statAt(unix.AT_FDCWD, d.path, d.path)
	return err == nil && own.Dev == there.Dev && own.Ino == there.Ino
}

func (d *Dir) fd() int { return int(d.f.Fd()) }

// check checks a file of the directory, see checkFile.
func (d *Dir) check(name string, want uint32) error {
	path := filepath.Join(d.path, name)
	st, err := statAt(d.fd(), name, path)
	if err != nil {
		return err
	}
	return checkFile(path, st, want)
}

// Close closes the directory and ends the turn of [LockDir].
func (d *Dir) Close() error {
	d.endTurn()
	return d.f.Close()
}

func (d *Dir) endTurn() {
	if d.turn == nil {
		return
	}
	if d.holds(turnFile, d.turn) {
		_ = d.remove(turnFile)
	}
	d.turn.Close()
	d.turn = nil
}

// Discard ends the turn and removes the directory if it is empty.
func (d *Dir) Discard() error {
	d.endTurn()
	if !d.current() {
		return nil
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// OpenLog opens the log for appending, and makes it with mode 0600 if there is
// none.
func (d *Dir) OpenLog() (*os.File, error) {
	return d.open(logFile, os.O_RDWR|os.O_CREATE|os.O_APPEND)
}

// RemoveLog removes the log.
func (d *Dir) RemoveLog() error { return d.remove(logFile) }

// RemoveRest removes the files of a killed daemon. If a daemon runs, it removes
// nothing.
func (d *Dir) RemoveRest() error {
	f, err := d.open(lockFile, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // remove the socket before the lock
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// While this process has the lock, no daemon can start.
	if free, err := flock(f, unix.LOCK_EX); !free || !d.holds(lockFile, f) {
		return err
	}
	return errors.Join(d.remove(socketFile), d.remove(heldFile), d.remove(countsFile), d.remove(lockFile))
}

// Listen listens at the daemon's socket, which it makes with mode 0600 in place of an
// earlier one. A file of another kind stays, and is a *[RundirError]. Nothing removes the
// socket when the listener is closed: there may be another one at its path by then.
func (d *Dir) Listen() (*net.UnixListener, error) { return d.listen(socketFile) }

// ListenHeld is Listen at the socket of [HeldPath].
func (d *Dir) ListenHeld() (*net.UnixListener, error) { return d.listen(heldFile) }

func (d *Dir) listen(name string) (*net.UnixListener, error) {
	if err := d.removeSocket(name); err != nil {
		return nil, err
	}
	path := filepath.Join(d.path, name)
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if err = d.check(name, unix.S_IFSOCK); err == nil { // otherwise the directory has been moved
		if err = unix.Fchmodat(d.fd(), name, 0o600, 0); err != nil {
			err = &fs.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	if err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// RemoveHeld removes the socket of [HeldPath].
func (d *Dir) RemoveHeld() error { return d.removeSocket(heldFile) }

// removeSocket removes a socket, if there is one. Any other kind of file stays, and is a
// *[RundirError].
func (d *Dir) removeSocket(name string) error {
	err := d.check(name, unix.S_IFSOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.remove(name)
}

// open opens a regular file of the directory. A new file gets mode 0600.
func (d *Dir) open(name string, flags int) (*os.File, error) {
	path := filepath.Join(d.path, name)
	// O_NONBLOCK: the file may be a named pipe without a writer.
	fd, err := unix.Openat(d.fd(), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		var e *RundirError
		if errors.As(d.check(name, unix.S_IFREG), &e) {
			return nil, e
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = checkFile(path, &st, unix.S_IFREG)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// remove removes a file; a missing file is not an error.
func (d *Dir) remove(name string) error {
	err := unix.Unlinkat(d.fd(), name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	return &fs.PathError{Op: "remove", Path: filepath.Join(d.path, name), Err: err}
}

// A Running error means that another daemon has the run directory.
type Running struct{ PID int }

func (e *Running) Error() string {
	return fmt.Sprintf("a daemon with process id %d is running already", e.PID)
}

// TakeLock takes the lock that makes a process the only daemon of the directory, and
// writes this process's id into its file. It waits for another holder until ctx ends,
// and then returns a *[Running]. The lock ends when all descriptors of the file are
// closed.
func (d *Dir) TakeLock(ctx context.Context) (*os.File, error) {
	f, err := d.lock(ctx, lockFile)
	if err != nil && errors.Is(err, ctx.Err()) {
		pid, _ := d.Holder()
		return nil, &Running{PID: pid}
	}
	if err != nil {
		return nil, err
	}
	if err := writePID(f); err != nil {
		// The disk is full: a daemon without a process id could not be found.
		_ = d.remove(lockFile)
		f.Close()
		return nil, err
	}
	return f, nil
}

// lock opens a file, which it makes if it does not exist, and locks it. It waits until
// ctx ends, and then returns the error of ctx.
func (d *Dir) lock(ctx context.Context, name string) (*os.File, error) {
	for {
		f, err := d.open(name, os.O_RDWR|os.O_CREATE)
		if err != nil {
			return nil, err
		}
		err = poll(ctx, func() (bool, error) { return flock(f, unix.LOCK_EX) })
		if err == nil && d.holds(name, f) {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
		// The previous holder has removed the file, so this lock has no effect.
	}
}

// holds reports whether the file with that name is f.
func (d *Dir) holds(name string, f *os.File) bool {
	var own unix.Stat_t
	there, err := statAt(d.fd(), name, f.Name())
	return err == nil && unix.Fstat(int(f.Fd()), &own) == nil && own.Dev == there.Dev && own.Ino == there.Ino
}

// RemoveFiles removes the files of a daemon that ends, while it has the lock: the
// socket, if socket is true, its counts and the file of the lock.
func (d *Dir) RemoveFiles(socket bool) {
	if socket {
		_ = d.removeSocket(socketFile)
	}
	_ = d.remove(countsFile)
	_ = d.remove(lockFile)
}

// pidPatience is how long the holder of the lock may take to write its process id,
// which it does right after locking.
const pidPatience = 2 * time.Second

// Holder returns the process id of the daemon that holds the lock, 0 if none
// does.
func (d *Dir) Holder() (pid int, err error) {
	f, err := d.open(lockFile, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), pidPatience)
	defer cancel()
	err = poll(ctx, func() (bool, error) {
		// A shared lock, so that two callers do not take each other for a daemon.
		free, err := flock(f, unix.LOCK_SH)
		if free {
			pid = 0 // a killed daemon left it
		} else {
			pid = readPID(f)
		}
		return free || pid > 1, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return 0, &RundirError{Path: f.Name(), Why: "it is locked, and there is no process id in it", Err: syscall.EINVAL}
	}
	return pid, err
}

// AwaitEnd waits until no daemon holds the lock. It returns at once if none does.
func (d *Dir) AwaitEnd() {
	f, err := d.open(lockFile, os.O_RDONLY)
	if err != nil {
		return
	}
	defer f.Close()
	for unix.Flock(int(f.Fd()), unix.LOCK_SH) == unix.EINTR {
	}
}

// flock tries to lock a file and reports whether it succeeded.
func flock(f *os.File, how int) (bool, error) {
	switch err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err {
	case nil:
		return true, nil
	case unix.EWOULDBLOCK, unix.EINTR:
		return false, nil
	default:
		return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
}

// poll calls try until it is done or fails, or ctx ends; at least once.
func poll(ctx context.Context, try func() (done bool, err error)) error {
	for {
		if done, err := try(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// readPID returns the process id in a lock file, 0 if there is none.
func readPID(f *os.File) int {
	b, _ := io.ReadAll(io.NewSectionReader(f, 0, 32))
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || !strings.HasSuffix(string(b), "\n") {
		return 0
	}
	return pid
}
