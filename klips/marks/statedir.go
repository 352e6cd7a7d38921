package marks

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// DefaultDir is where the marks of the machine's first network namespace are kept.
const DefaultDir = "/var/lib/ipsec"

// None is the value of IPSEC_STATEDIR for no directory. The program also takes an empty
// value for it.
const None = "none"

// Dir returns the directory in which this process keeps marks, "" for none:
// $IPSEC_STATEDIR, none where that is None; without it, none where $IPSEC_RUNDIR is
// set, as what runs there is not the machine's own stack, else [DefaultDir] in the
// network namespace of process 1, and netns-<inode> below that in any other. A relative
// path begins at the working directory.
func Dir(getenv func(string) string) (string, error) {
	switch d := getenv("IPSEC_STATEDIR"); {
	case d == None:
		return "", nil
	case d != "":
		return filepath.Abs(d)
	case getenv("IPSEC_RUNDIR") != "":
		return "", nil
	}
	own, err := netns("/proc/self/ns/net")
	if err != nil {
		return DefaultDir, nil
	}
	// Without the right to look at process 1 it is not ours.
	if first, err := netns("/proc/1/ns/net"); err == nil && first == own {
		return DefaultDir, nil
	}
	return filepath.Join(DefaultDir, fmt.Sprintf("netns-%d", own)), nil
}

// netns returns the inode number of a namespace file.
func netns(path string) (uint64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return fi.Sys().(*syscall.Stat_t).Ino, nil
}
