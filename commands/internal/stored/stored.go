// Package stored keeps values in a directory of the run directory, one file each, so that
// a later command finds what an earlier one has done. A lock lets one process at a time
// read and change them.
package stored

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips/user"
)

// prefix begins the name of the file of a value.
const prefix = "conn."

// A Value is what a Dir keeps.
type Value interface {
	// Name is the name that the value is found by. It can have any length.
	Name() string
	// Check returns an error for a value that lacks something.
	Check() error
}

// A Dir is a directory with values, locked: no other process reads or changes it until
// Close. A nil Dir is for List and Close one without values.
type Dir[T Value] struct {
	f    *os.File
	path string
}

// Open locks a directory in a run directory, and waits for the lock. If there is none, it is
// nil: a command that only reads must make nothing. The errors are those of [user.OpenDir].
func Open[T Value](rundir, directory string) (*Dir[T], error) {
	r, err := user.OpenDir(rundir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	d, err := open[T](filepath.Join(rundir, directory))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return d, err
}

// Read returns the values of a directory in a run directory without waiting for its lock: each
// is whole, but others may be changed meanwhile. What cannot be read is left out.
func Read[T Value](rundir, directory string) []T {
	list, _ := (&Dir[T]{path: filepath.Join(rundir, directory)}).List()
	return list
}

// Make is Open for a command that stores values: it makes both directories if they do not
// exist. The errors are those of [user.MakeDir].
func Make[T Value](rundir, directory string) (*Dir[T], error) {
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
		if d, err := open[T](path); !errors.Is(err, fs.ErrNotExist) { // Forget removes it
			return d, err
		}
	}
}

func open[T Value](path string) (*Dir[T], error) {
	for {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		if err != nil {
			return nil, err
		}
		d := &Dir[T]{f, path}
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

func (d *Dir[T]) lock() (err error) {
	for {
		if err = syscall.Flock(int(d.f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			return err
		}
	}
}

// current reports whether the open directory is still the one at the path.
func (d *Dir[T]) current() bool {
	mine, err := d.f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Lstat(d.path)
	return err == nil && os.SameFile(mine, now)
}

// Close unlocks the directory.
func (d *Dir[T]) Close() error {
	if d == nil {
		return nil
	}
	return d.f.Close()
}

// file returns the path of the file of a value. A name can be too long for a file name.
func (d *Dir[T]) file(name string) string {
	h := fnv.New64a()
	h.Write([]byte(name))
	return filepath.Join(d.path, fmt.Sprintf("%s%016x", prefix, h.Sum64()))
}

// Put stores a value, and replaces one of the same name.
func (d *Dir[T]) Put(v T) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// A reader sees the old file or the new one, even if this is interrupted.
	whole := filepath.Join(d.path, "new")
	if err := os.WriteFile(whole, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(whole, d.file(v.Name()))
}

// Remove removes a value. A missing value is not an error.
func (d *Dir[T]) Remove(name string) error {
	if err := os.Remove(d.file(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Get returns a value. The error wraps [fs.ErrNotExist] if there is none of that name.
func (d *Dir[T]) Get(name string) (T, error) {
	v, err := read[T](d.file(name))
	if err == nil && v.Name() != name {
		err = fs.ErrNotExist
	}
	return v, err
}

// List returns all values, in the order of their names. A file that cannot be read is left
// out, and the error includes it.
func (d *Dir[T]) List() (list []T, err error) {
	if d == nil {
		return nil, nil
	}
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		if !isValue(e) {
			continue
		}
		v, err := read[T](filepath.Join(d.path, e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(a.Name(), b.Name()) })
	return list, errors.Join(errs...)
}

func read[T Value](path string) (v T, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, err
	}
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err == nil {
		err = v.Check()
	}
	if err != nil {
		return v, fmt.Errorf("%s is damaged: %w; remove it, and bring the connection up again", path, err)
	}
	return v, nil
}

func isValue(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), prefix) }

// Any reports whether a directory of a run directory has values.
func Any(rundir, directory string) bool {
	entries, err := os.ReadDir(filepath.Join(rundir, directory))
	return err == nil && slices.ContainsFunc(entries, isValue)
}

// Forget removes a directory of a run directory.
func Forget(rundir, directory string) error {
	return os.RemoveAll(filepath.Join(rundir, directory))
}
