package user

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/netns"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// DefaultRundir is the run directory of the daemon in the machine's first network
// namespace.
const DefaultRundir = "/run/ipsec"

// maxRundir is the maximum length in bytes of a run directory's path.
const maxRundir = pfkey.MaxSocketPath - len("/"+socketFile)

// The names of the files in a run directory.
const (
	socketFile = "pfkey.sock"
	heldFile   = "held.sock"
	countsFile = "klipsd.counts"
	lockFile   = "klipsd.pid"
	turnFile   = "setup.lock"
	logFile    = "klipsd.log"
)

// A RundirError means that a run directory, or a file in it, cannot be used.
type RundirError struct {
	Path  string      // the directory or the file
	Fault klips.Fault // FaultNone: Why is complete
	// Why is what is wrong, as in "it is a symbolic link", if that is more than
	// Fault.String returns; else empty.
	Why string
	// Err is the kind of error, for errors.Is: fs.ErrPermission if the wrong user could
	// read or change the file, syscall.ENAMETOOLONG, syscall.ENOTDIR, syscall.ELOOP (a
	// symbolic link), or an error of the system.
	Err error
}

func (e *RundirError) Error() string {
	s := e.Path
	if q := strconv.Quote(s); q != `"`+s+`"` {
		s = q // one line, whatever characters the path has
	}
	if e.Why == "" {
		return s + ": " + e.Fault.String()
	}
	return s + ": " + e.Why
}

func (e *RundirError) Unwrap() error { return e.Err }

// Rundir returns the absolute path of the run directory of this network namespace's
// daemon: d if it is not empty, [DefaultRundir] in the namespace of process 1, and
// netns-<inode> below that in others. So commands under "ip netns exec" find the right
// daemon. A relative path begins at the working directory. The error is a
// *[RundirError]: the path is too long for the daemon's socket (syscall.ENAMETOOLONG),
// or it is relative and there is no working directory.
func Rundir(d string) (string, error) {
	if d == "" {
		return netns.Dir(DefaultRundir), nil
	}
	abs, err := filepath.Abs(d)
	if err != nil {
		return "", &RundirError{Path: d, Fault: klips.FaultRundirRelative, Err: err}
	}
	return abs, checkLength(abs)
}

// SocketPath returns the path of the daemon's socket in a run directory.
func SocketPath(rundir string) string { return filepath.Join(rundir, socketFile) }

// HeldPath returns the path of the socket of a process that holds, in a run directory, what
// a daemon has handed over, until the next daemon takes it.
func HeldPath(rundir string) string { return filepath.Join(rundir, heldFile) }

// LockPath returns the path of the lock file of a running daemon; it contains its
// process id as text.
func LockPath(rundir string) string { return filepath.Join(rundir, lockFile) }

// LogPath returns the path of the log of a daemon that runs in the background.
func LogPath(rundir string) string { return filepath.Join(rundir, logFile) }

// checkLength reports a run directory whose socket has too long a path.
func checkLength(rundir string) error {
	if len(rundir) <= maxRundir {
		return nil
	}
	return &RundirError{
		Path:  rundir,
		Fault: klips.FaultRundirLong,
		Why: fmt.Sprintf("%v: in absolute form it has %d bytes, and at most %d fit the address of a socket in it",
			klips.FaultRundirLong, len(rundir), maxRundir),
		Err: syscall.ENAMETOOLONG,
	}
}

// checkSocket returns the reason why a daemon's socket cannot be used. If it does not
// exist, errors.Is finds fs.ErrNotExist; if this user cannot read the directory,
// fs.ErrPermission.
func checkSocket(path string) error {
	rundir := filepath.Dir(path)
	if err := checkLength(rundir); err != nil {
		return err
	}
	st, err := statAt(unix.AT_FDCWD, rundir, rundir)
	if err != nil {
		return err
	}
	if err := checkDir(rundir, st); err != nil {
		return err
	}
	if st, err = statAt(unix.AT_FDCWD, path, path); err != nil {
		return err
	}
	return checkFile(path, st, unix.S_IFSOCK)
}

// statAt returns the status of a file in the directory dirfd, without following links.
// path is for the error.
func statAt(dirfd int, name, path string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return &st, nil
}

// checkDir returns the reason why a directory cannot be a run directory: another user
// could put a socket there and receive keys.
func checkDir(path string, st *unix.Stat_t) error {
	e := &RundirError{Path: path}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFLNK:
		e.Fault, e.Err = klips.FaultRundirLink, syscall.ELOOP
	case kind != unix.S_IFDIR:
		e.Fault, e.Err = klips.FaultRundirKind, syscall.ENOTDIR
	case !trusted(st.Uid):
		e.Fault, e.Err = klips.FaultRundirOwner, fs.ErrPermission
		e.Why = fmt.Sprintf("the directory belongs to uid %d, who could take the daemon's place", st.Uid)
	case st.Mode&0o022 != 0:
		e.Fault, e.Err = klips.FaultRundirMode, fs.ErrPermission
		if st.Mode&unix.S_ISVTX != 0 {
			e.Fault = klips.FaultRundirShared
		}
		e.Why = fmt.Sprintf("other users may write to the directory (mode %04o), and could take the daemon's place", st.Mode&0o7777)
	default:
		return nil
	}
	return e
}

// checkFile checks that a file of a run directory has the wanted type: S_IFSOCK or
// S_IFREG.
func checkFile(path string, st *unix.Stat_t, want uint32) error {
	e := &RundirError{Path: path, Fault: klips.FaultRundirFile}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFLNK:
		e.Why, e.Err = "it is a symbolic link, which is not followed", syscall.ELOOP
	case kind != want && want == unix.S_IFSOCK:
		e.Why, e.Err = "it is not a socket", syscall.ENOTSOCK
	case kind != want:
		e.Why, e.Err = "it is not a regular file", syscall.EINVAL
	case !trusted(st.Uid):
		e.Why, e.Err = fmt.Sprintf("it belongs to uid %d", st.Uid), fs.ErrPermission
	default:
		return nil
	}
	return e
}

// trusted reports whether this process may trust files of a user: root, or its own
// user.
func trusted(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }
