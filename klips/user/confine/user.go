package confine

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/owner"
)

// program is the path of this program.
const program = "/proc/self/exe"

// ErrProgram means that [Exec] cannot execute this program, for example because /proc is
// not mounted.
var ErrProgram = errors.New("this program cannot be executed again")

// A User is the user that the daemon gets.
type User struct {
	UID, GID uint32
	change   bool  // it is not that of this process
	why      error // why this process, which is root, keeps its user
}

// Choose returns the user for [Exec]: [owner.Daemon], if this process is root and that
// user exists. This process keeps its user if the other one may not read and write the
// files in needs, or if this process may not do all that the change needs. The error
// wraps [ErrProgram].
func Choose(needs []string) (User, error) {
	if err := unix.Access(program, unix.X_OK); err != nil {
		return User{}, fmt.Errorf("%w: %s: %w", ErrProgram, program, err)
	}
	u := User{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if u.UID != 0 {
		return u, nil // an ordinary user has given it what it has
	}
	uid, gid, ok := owner.IDs()
	if !ok {
		u.why = fmt.Errorf("there is no user %s", owner.Daemon)
	} else if u.why = possible(uid, gid, needs); u.why == nil {
		u = User{UID: uid, GID: gid, change: true}
	}
	return u, nil
}

// possible returns the reason why this process, which is root, cannot become a user who
// executes this program and uses the files in needs.
func possible(uid, gid uint32, needs []string) error {
	if err := executable(uid, gid); err != nil {
		return err
	}
	for _, file := range needs {
		var st unix.Stat_t
		if unix.Stat(file, &st) == nil && bits(&st, uid, gid)&6 != 6 { // a missing one is reported later
			return fmt.Errorf("user %s may not open %s (mode %04o)", owner.Daemon, file, st.Mode&0o7777)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	// CAP_CHOWN gives that user the files of the daemon.
	const change = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_CHOWN
	if lacks := change &^ have[0].Effective; lacks != 0 {
		return fmt.Errorf("root has no capability %s", capabilities(uint64(lacks))[0])
	}
	// Without ambient capabilities, that user would have none (capabilities(7)).
	secure, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	if secure&(secureKeepLocked|secureNoAmbient) != 0 {
		return fmt.Errorf("the secure bits %#x do not allow to pass on capabilities", secure)
	}
	// Threads count for a limit that root does not have (getrlimit(2)), and a Go program
	// that cannot start one ends.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unlimited); err != nil && limit.Cur < manyThreads {
		return fmt.Errorf("the limit of processes is %d", limit.Cur)
	}
	return nil
}

// Bits of linux/securebits.h: SECBIT_KEEP_CAPS_LOCKED, SECBIT_NO_CAP_AMBIENT_RAISE.
const secureKeepLocked, secureNoAmbient = 1 << 5, 1 << 6

// manyThreads is more than the daemon has.
const manyThreads = 64

// unlimited is for limits of the system.
var unlimited = unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}

// become changes to the user. The capabilities stay permitted.
func (u User) become() error {
	if !u.change {
		return u.why
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	// The functions of package syscall change all threads of the process.
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(int(u.GID), int(u.GID), int(u.GID)); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(int(u.UID), int(u.UID), int(u.UID)); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	return nil
}

// executable reports whether a user may execute this program.
func executable(uid, gid uint32) error {
	var st unix.Stat_t
	if err := unix.Stat(program, &st); err != nil {
		return err
	}
	if bits(&st, uid, gid)&1 == 0 {
		return fmt.Errorf("user %s may not execute the program's file (mode %04o)", owner.Daemon, st.Mode&0o7777)
	}
	return nil
}

// bits returns the three bits of a file's mode that are for a user.
func bits(st *unix.Stat_t, uid, gid uint32) uint32 {
	switch {
	case st.Uid == uid:
		return st.Mode >> 6 & 7
	case st.Gid == gid:
		return st.Mode >> 3 & 7
	}
	return st.Mode & 7
}
