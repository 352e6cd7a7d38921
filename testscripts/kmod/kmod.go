// Package kmod loads kernel modules in the guests of tests. Guests have no modprobe, or
// their modules are in another folder.
package kmod

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// tries is how often Load tries to load a module. Some modules test themselves and
// measure time; in a guest such a test can fail by chance.
const tries = 5

// Load loads the module in a file. It is not an error if the module is loaded already.
// The error names the file; errors.Is finds the kernel's errno in it.
func Load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return load(filepath.Base(file), func() error { return unix.FinitModule(int(f.Fd()), "", 0) })
}

func load(name string, init func() error) (err error) {
	for range tries {
		if err = init(); err == nil || errors.Is(err, unix.EEXIST) {
			return nil
		}
		if errors.Is(err, unix.ENOEXEC) || errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("kernel module %s is not for this kernel, or one that it needs is not loaded: %w", name, err)
		}
	}
	return fmt.Errorf("kernel module %s does not start, tried %d times (its self test fails, or the kernel cannot have it): %w", name, tries, err)
}
