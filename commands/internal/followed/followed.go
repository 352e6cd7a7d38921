// Package followed stores in the run directory which connections use the default route
// for their own end, and the addresses that they were set up with. Such connections
// must be set up again when the default route changes.
package followed

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips/user"
)

// directory is the directory of the files in the run directory. Each connection has a
// file of its own.
const (
	directory = "connections"
	prefix    = "conn."
)

// A Connection is a connection that was routed or brought up.
type Connection struct {
	Conns     []string // names of its conn sections
	Config    string   // the file, an absolute path
	NoInclude bool     `json:",omitempty"` // include lines of the file are ignored
	Route     Route    // at the time of the setup
	Interface string   // the virtual device
	// Up: it was up and has been taken down, but could not be brought up again yet.
	Up bool `json:",omitempty"`
}

// A Route is a default route.
type Route struct {
	Local   netip.Addr // source address of this host on the route
	Gateway netip.Addr // invalid: none
	Device  string
}

// A Dir is the directory, locked: no other process reads or changes it until Close.
type Dir struct {
	f    *os.File
	path string
}

// Open locks the directory in a run directory, and waits for the lock. It creates both
// directories if they do not exist. The errors are those of [user.MakeDir].
func Open(rundir string) (*Dir, error) {
	r, err := user.MakeDir(rundir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	path := filepath.Join(rundir, directory)
	for {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // Forget has removed it
		}
		if err != nil {
			return nil, err
		}
		d := &Dir{f, path}
		if err := d.lock(); err != nil {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		if d.current() {
			return d, nil
		}
		f.Close()
	}
}

func (d *Dir) lock() (err error) {
	for {
		if err = syscall.Flock(int(d.f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			return err
		}
	}
}

// current reports whether the open directory is still the one at the path.
func (d *Dir) current() bool {
	mine, err := d.f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Lstat(d.path)
	return err == nil && os.SameFile(mine, now)
}

// Close unlocks the directory.
func (d *Dir) Close() error { return d.f.Close() }

// file returns the path of a connection's file. The name of a connection can be too
// long for a file name.
func (d *Dir) file(name string) string {
	h := fnv.New64a()
	h.Write([]byte(name))
	return filepath.Join(d.path, fmt.Sprintf("%s%016x", prefix, h.Sum64()))
}

// Name returns the connection's name for messages: the names of its conns, with blanks
// between them.
func (c *Connection) Name() string { return strings.Join(c.Conns, " ") }

// Put stores a connection, and replaces one of the same name.
func (d *Dir) Put(c Connection) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	// A reader sees the old file or the new one, even if this is interrupted.
	whole := filepath.Join(d.path, "new")
	if err := os.WriteFile(whole, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(whole, d.file(c.Name()))
}

// Remove removes a connection. A missing connection is not an error.
func (d *Dir) Remove(name string) error {
	if err := os.Remove(d.file(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List returns all connections. A file that cannot be read is left out, and the error
// includes it.
func (d *Dir) List() (list []Connection, err error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		path := filepath.Join(d.path, e.Name())
		var c Connection
		text, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(text, &c)
		}
		if err == nil && (len(c.Conns) == 0 || c.Config == "" || !c.Route.Local.IsValid()) {
			err = errors.New("something is missing in it")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is damaged: %w; remove it, and bring the connection up again", path, err))
			continue
		}
		list = append(list, c)
	}
	return list, errors.Join(errs...)
}

// Any reports whether a run directory has connections.
func Any(rundir string) bool {
	entries, err := os.ReadDir(filepath.Join(rundir, directory))
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), prefix) })
}

// Forget removes all connections.
func Forget(rundir string) error { return os.RemoveAll(filepath.Join(rundir, directory)) }
