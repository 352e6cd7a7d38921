package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// MemoryGroup creates a control group whose processes may use at most this many bytes
// of memory together, and returns its directory. A process joins by writing its process
// id into the file cgroup.procs. remove waits until the group has no processes.
func MemoryGroup(bytes uint64) (dir string, remove func() error, err error) {
	var errs []error
	for _, h := range []struct{ top, limit string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, // version 1
		{"/sys/fs/cgroup", "memory.max"},                   // version 2
	} {
		dir, err := os.MkdirTemp(h.top, "ipsec-")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, h.limit), strconv.AppendUint(nil, bytes, 10), 0)
			if err == nil {
				return dir, func() error { return removeGroup(dir) }, nil
			}
			_ = os.Remove(dir)
		}
		errs = append(errs, err)
	}
	return "", nil, errors.Join(errs...)
}

func removeGroup(dir string) error {
	var err error
	if waited := Await(func() bool { err = os.Remove(dir); return err == nil }); waited != nil {
		return fmt.Errorf("%w: %w", waited, err)
	}
	return nil
}
