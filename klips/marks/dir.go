package marks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/owner"
)

// The names of the files in a directory.
const (
	marksFile   = "marks"
	newSuffix   = ".new" // of a file that is being written
	newFile     = marksFile + newSuffix
	damagedFile = "marks.damaged"
	lockFile    = "marks.lock"
)

// ErrBusy means that another process has the marks.
var ErrBusy = errors.New("another process keeps sequence marks there")

// A DirError means that a directory, or a file in it, cannot be used.
type DirError struct {
	Path string
	Why  string // what is wrong with it, as in "it is a symbolic link"
	Err  error  // the kind, for errors.Is
}

func (e *DirError) Error() string {
	s := e.Path
	if q := strconv.Quote(s); q != `"`+s+`"` {
		s = q // one line, whatever characters the path has
	}
	return s + ": " + e.Why
}

func (e *DirError) Unwrap() error { return e.Err }

// A dir is an open directory that other users cannot change.
type dir struct {
	f    *os.File
	path string
}

// makeDir opens a directory, and makes it with mode 0700 if it does not exist.
func makeDir(path string) (*dir, error) {
	if err := os.MkdirAll(filepath.Clean(path), 0o700); err != nil {
		return nil, err
	}
	return openDir(path)
}

// openDir opens a directory.
func openDir(path string) (*dir, error) {
	path = filepath.Clean(path) // open(2) would follow a link before a slash
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if err == unix.ENOTDIR || err == unix.ELOOP {
			return nil, &DirError{path, "it is a symbolic link or no directory", err}
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return checkDir(os.NewFile(uintptr(fd), path), path)
}

// checkDir makes a dir of an open directory, and closes it on an error.
func checkDir(f *os.File, path string) (*dir, error) {
	d := &dir{f, path}
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	switch {
	case err != nil:
		err = &fs.PathError{Op: "stat", Path: path, Err: err}
	case !owner.Trusted(st.Uid):
		err = &DirError{path, fmt.Sprintf("the directory belongs to uid %d", st.Uid), fs.ErrPermission}
	case st.Mode&0o022 != 0:
		err = &DirError{path, fmt.Sprintf("other users may write to the directory (mode %04o)", st.Mode&0o7777), fs.ErrPermission}
	}
	if err != nil {
		d.f.Close()
		return nil, err
	}
	return d, nil
}

// open opens a regular file of the directory. A new file gets mode 0600.
func (d *dir) open(name string, flags int) (*os.File, error) {
	path := filepath.Join(d.path, name)
	// O_NONBLOCK: the file may be a named pipe without a writer.
	fd, err := unix.Openat(int(d.f.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err == unix.ELOOP {
		return nil, &DirError{path, "it is a symbolic link, which is not followed", err}
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	switch {
	case err != nil:
		err = &fs.PathError{Op: "stat", Path: path, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = &DirError{path, "it is not a regular file", syscall.EINVAL}
	case !owner.Trusted(st.Uid):
		err = &DirError{path, fmt.Sprintf("it belongs to uid %d", st.Uid), fs.ErrPermission}
	case st.Mode&0o077 != 0:
		// It contains the secret, which other users must not read.
		if err = unix.Fchmod(fd, 0o600); err != nil {
			err = &fs.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// replace replaces a file with a new one with these bytes, in one step that survives a
// crash of the machine.
func (d *dir) replace(name string, b []byte) (*os.File, error) {
	fresh := name + newSuffix
	if err := unix.Unlinkat(int(d.f.Fd()), fresh, 0); err != nil && err != unix.ENOENT {
		return nil, &fs.PathError{Op: "remove", Path: filepath.Join(d.path, fresh), Err: err}
	}
	f, err := d.open(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.rename(fresh, name)
	}
	if err != nil {
		f.Close()
		_ = unix.Unlinkat(int(d.f.Fd()), fresh, 0)
		return nil, err
	}
	return f, nil
}

// rename renames a file and syncs the directory.
func (d *dir) rename(from, to string) error {
	fd := int(d.f.Fd())
	if err := unix.Renameat(fd, from, fd, to); err != nil {
		return &fs.PathError{Op: "rename", Path: filepath.Join(d.path, from), Err: err}
	}
	return d.f.Sync()
}

// lock locks the directory for one writer. The lock ends with the process.
func (d *dir) lock(ctx context.Context) (*os.File, error) {
	f, err := d.open(lockFile, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: ErrBusy}
		case <-time.After(5 * time.Millisecond):
		}
	}
}
