package confine

import (
	"errors"
	"fmt"
	"time"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// Files are what the daemon reads and writes while it runs.
type Files struct {
	Read  []string // files, or directories with all in them
	Write []string // directories; they may be missing
	Use   []string // devices
}

// Enter restricts this process, which was started by [Exec], for good: its memory is
// not written to disk, neither in a core dump nor as swap; it can reach no files but
// those given; and it can make no system call that the daemon does not make, so it
// starts no programs. It returns what was refused.
func Enter(f Files) Refusals {
	var r Refusals
	r.add(RightDumps, NoDumps())
	r.add(RightSwap, lockMemory())
	// These read files: /etc/localtime, for the times in the log, and /etc/passwd.
	_ = time.Now().Local().String()
	_ = userName()
	r.add(RightFiles, restrictFiles(f))
	r.add(RightCalls, restrictCalls())
	return r
}

// NoDumps keeps the memory of this process out of core dumps, and away from other
// processes of the same user (ptrace).
func NoDumps() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// lockMemory locks all memory that the process uses, now and later. It does so only
// without a limit: with one, a later allocation could fail.
func lockMemory() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil {
		return err
	}
	if l.Cur != unix.RLIM_INFINITY {
		return fmt.Errorf("the limit of locked memory is %d bytes", l.Cur)
	}
	// Go reserves much more address space than it uses: lock pages only when they are
	// used.
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

// restrictFiles restricts the process to files, with Landlock (landlock(7)). It can then
// neither use TCP, nor send signals to other processes, where the kernel has that.
func restrictFiles(f Files) error {
	if landlockVersion() == 0 {
		return errors.New("the kernel has no Landlock")
	}
	return landlock.V9.BestEffort().Restrict(
		landlock.RODirs(f.Read...).IgnoreIfMissing(),
		landlock.RWDirs(f.Write...).IgnoreIfMissing(),
		landlock.RWFiles(f.Use...).WithIoctlDev().IgnoreIfMissing(),
	)
}
