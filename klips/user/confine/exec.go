package confine

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/owner"
)

// needed are the capabilities of the daemon: devices, addresses and the packet filter
// need CAP_NET_ADMIN, raw sockets CAP_NET_RAW.
const needed = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW

// Exec replaces this process by another run of its program, with the arguments argv and
// an empty environment. It has the user [owner.Daemon], if this process is root and that
// user exists, and no more than CAP_NET_ADMIN and CAP_NET_RAW. The descriptors keep stay
// open, besides those that are not closed on exec. If that user may not read and write
// the files in needs, this process keeps its user.
//
// last is called with what was refused, before the program starts, when everything
// else has been done. Exec returns only on an error, and then this process may have
// lost rights already.
func Exec(argv []string, needs []string, keep []int, last func(Refusals) error) error {
	// The credentials of the calling thread are those of the new program.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var r Refusals
	// Locked memory counts for the limit of the user.
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited) // Enter reports a limit
	err := bound()
	r.add(RightUser, becomeDaemon(needs))
	if os.Geteuid() == 0 { // another user gets only the ambient capabilities
		r.add(RightCapabilities, err)
	}
	r.add(RightCapabilities, reduce())
	r.add(RightPrivileges, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	if err := last(r); err != nil {
		return err
	}
	for _, fd := range keep {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	return os.NewSyscallError("exec", syscall.Exec("/proc/self/exe", argv, []string{}))
}

// bound removes all other capabilities from the bounding set of this thread, which
// limits what a program of root gets (capabilities(7)).
func bound() error {
	for c := uintptr(0); c < 64; c++ {
		if needed>>c&1 != 0 {
			continue
		}
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil || has == 0 {
			continue // EINVAL: the kernel has no capability with this number
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// becomeDaemon changes to the daemon's user, if this process is root. The capabilities
// stay permitted.
func becomeDaemon(needs []string) error {
	if os.Geteuid() != 0 {
		return nil // an ordinary user has given it what it has
	}
	uid, gid, ok := owner.IDs()
	if !ok {
		return fmt.Errorf("there is no user %s", owner.Daemon)
	}
	if err := executable(uid, gid); err != nil {
		return err
	}
	for _, file := range needs {
		var st unix.Stat_t
		if unix.Stat(file, &st) == nil && bits(&st, uid, gid)&6 != 6 { // a missing one is reported later
			return fmt.Errorf("user %s may not open %s (mode %04o)", owner.Daemon, file, st.Mode&0o7777)
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	// The functions of package syscall change all threads of the process.
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(int(gid), int(gid), int(gid)); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(int(uid), int(uid), int(uid)); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	return nil
}

// executable reports whether a user may execute this program.
func executable(uid, gid uint32) error {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err != nil {
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

// reduce leaves this thread, and the program that it executes, the needed capabilities
// that it has.
func reduce() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have, want [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	left := have[0].Permitted & needed
	want[0] = unix.CapUserData{Effective: left, Permitted: left, Inheritable: left}
	if err := unix.Capset(&header, &want[0]); err != nil {
		return err
	}
	// Ambient capabilities stay with a program that is executed without privileges.
	for _, c := range []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW} {
		if left>>c&1 == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0); err != nil {
			return err
		}
	}
	return nil
}
