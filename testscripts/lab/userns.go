package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// inUserNS marks the process that Enter has started.
const inUserNS = "IPSEC_LAB_USERNS"

// Enter makes sure that the process may create hosts. For root it returns at once. For
// an ordinary user it runs the program again, with the same arguments, as root of a new
// user namespace, waits for it and exits with its status. The error gives on one line
// the reason why that is not possible.
//
// Call it at the beginning of main, before other goroutines start.
func Enter() error {
	if os.Geteuid() == 0 {
		return nil
	}
	if InUserNS() {
		return errors.New("the user namespace maps nobody to root")
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inUserNS+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("not root, and the kernel refuses a user namespace (%w)", errnoOf(err))
	}
	// The terminal sends ^C to both processes; this one must outlive the child. A
	// signal to this process alone is passed on.
	signal.Ignore(os.Interrupt)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for s := range term {
			cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		os.Exit(exit.ExitCode())
	}
	os.Exit(1)
	return nil
}

// InUserNS reports whether Enter has started this process in a user namespace: outside,
// its root is an ordinary user, and there are no other users.
func InUserNS() bool { return os.Getenv(inUserNS) != "" }

// CanTUN reports why TUN devices cannot be made here, or nil.
func CanTUN() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err == nil {
		// Without its driver the node opens with ENXIO or ENODEV, so opening it is
		// enough.
		return f.Close()
	}
	return fmt.Errorf("cannot open /dev/net/tun (%w)", errnoOf(err))
}

func errnoOf(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}
