package confine

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// needed are the capabilities of the daemon: devices, addresses and the packet filter
// need CAP_NET_ADMIN, raw sockets CAP_NET_RAW.
const needed = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW

// Exec replaces this process by another run of its program, with the arguments argv and
// an empty environment. It has the user that [Choose] has chosen, and no more than
// CAP_NET_ADMIN and CAP_NET_RAW. The descriptors keep stay open, besides those that are
// not closed on exec.
//
// last is called with what was refused, before the program starts, when everything
// else has been done. Exec returns only on an error, and then this process may have
// lost rights already.
func Exec(argv []string, u User, keep []int, last func(Refusals) error) error {
	// The credentials of the calling thread are those of the new program.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var r Refusals
	// Locked memory counts for the limit of the user.
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited) // Enter reports a limit
	err := bound()
	r.add(RightUser, u.become())
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
	return os.NewSyscallError("exec", syscall.Exec(program, argv, []string{}))
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
