// Package sysctls sets parameters of the kernel that a configuration file asks for, and puts
// back what they were when the stack is stopped. The run directory has what they were.
package sysctls

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/stored"
)

// A Setting is a parameter and its value, as in "net/ipv4/ip_forward" and "1".
type Setting struct{ Name, Value string }

// A change is what a parameter was before, and what it was set to.
type change struct{ Param, Was, Is string }

// Name returns the parameter.
func (c change) Name() string { return c.Param }

// Check returns an error for a change that lacks something.
func (c change) Check() error {
	if c.Param == "" || c.Was == "" || c.Is == "" {
		return errors.New("it is no change of a parameter")
	}
	return nil
}

// directory is the directory of the changes in the run directory.
const directory = "sysctls"

// root is where the kernel has its parameters; a test has others.
var root = "/proc/sys"

// Set gives parameters their values, all or none. A parameter that has its value is left
// alone, and is not put back later.
func Set(rundir string, settings []Setting) error {
	changes, err := differing(settings)
	if len(changes) == 0 || err != nil {
		return err
	}
	dir, err := stored.Make[change](rundir, directory)
	if err != nil {
		return err
	}
	defer dir.Close()
	if changes, err = differing(settings); err != nil { // nobody else sets them now
		return err
	}
	var undo []func() error
	for _, c := range changes {
		back, err := set(dir, c)
		if err != nil {
			for _, u := range undo {
				err = errors.Join(err, u())
			}
			return err
		}
		undo = append(undo, back)
	}
	return nil
}

// differing returns the changes that the settings are.
func differing(settings []Setting) (changes []change, err error) {
	for _, s := range settings {
		was, err := get(s.Name)
		if err != nil {
			return nil, err
		}
		if was != s.Value {
			changes = append(changes, change{s.Name, was, s.Value})
		}
	}
	return changes, nil
}

// set makes one change, and returns how to undo it.
func set(dir *stored.Dir[change], c change) (undo func() error, err error) {
	old, err := dir.Get(c.Param)
	restore := func() error { return dir.Put(old) }
	switch {
	case errors.Is(err, fs.ErrNotExist):
		restore = func() error { return dir.Remove(c.Param) }
	case err != nil:
		return nil, err
	}
	now := c
	if old.Is == c.Was { // set before, by another file
		now.Was = old.Was
	}
	// Written first: what is set must not be forgotten.
	if err := dir.Put(now); err != nil {
		return nil, err
	}
	if err := put(c.Param, c.Is); err != nil {
		return nil, errors.Join(err, restore())
	}
	return func() error { return errors.Join(put(c.Param, c.Was), restore()) }, nil
}

// PutBack gives the parameters that Set has changed their former values, unless somebody has
// changed them since, and forgets them.
func PutBack(rundir string) error {
	dir, err := stored.Open[change](rundir, directory)
	if dir == nil || err != nil {
		return err
	}
	defer dir.Close()
	list, err := dir.List()
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range list {
		is, err := get(c.Param)
		if errors.Is(err, fs.ErrNotExist) { // its device is gone
			continue
		}
		if err == nil && is == c.Is {
			err = put(c.Param, c.Was)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, stored.Forget(rundir, directory))...)
}

func get(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, name))
	return strings.TrimSpace(string(b)), err
}

func put(name, value string) error {
	f, err := os.OpenFile(filepath.Join(root, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
