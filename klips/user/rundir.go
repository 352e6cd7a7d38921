package user

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// DefaultRundir is where the daemon of the machine's first network namespace
// keeps what it needs.
const DefaultRundir = "/run/ipsec"

// Rundir returns the directory of the daemon of this network namespace:
// $IPSEC_RUNDIR if set, [DefaultRundir] in the namespace of process 1, and
// netns-<inode> below that in any other, so that commands run by
// "ip netns exec" find the right daemon by themselves.
func Rundir(getenv func(string) string) string {
	if d := getenv("IPSEC_RUNDIR"); d != "" {
		return d
	}
	own, err := netns("/proc/self/ns/net")
	if err != nil {
		return DefaultRundir
	}
	// Without the right to look at process 1 it is not ours.
	if first, err := netns("/proc/1/ns/net"); err == nil && first == own {
		return DefaultRundir
	}
	return filepath.Join(DefaultRundir, fmt.Sprintf("netns-%d", own))
}

// netns returns the inode number of a namespace file.
func netns(path string) (uint64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return fi.Sys().(*syscall.Stat_t).Ino, nil
}

// SocketPath returns the path of the daemon's socket in a run directory.
func SocketPath(rundir string) string { return filepath.Join(rundir, "pfkey.sock") }

// LockPath returns the path of the file that a running daemon holds locked; it
// holds its process id as text.
func LockPath(rundir string) string { return filepath.Join(rundir, "klipsd.pid") }

// LogPath returns the path of the log of a daemon that runs in the background.
func LogPath(rundir string) string { return filepath.Join(rundir, "klipsd.log") }
