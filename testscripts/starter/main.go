// Starter is two programs of the scripts, under the names netns and status. Each starts another
// program, in most lines of a script, so it is small: a large program takes long to start.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/lab"
)

func main() {
	switch filepath.Base(os.Args[0]) {
	case "netns":
		netns()
	case "status":
		status()
	default:
		fmt.Fprintln(os.Stderr, "starter: its name must be netns or status")
		os.Exit(125)
	}
}

// netns is the program "netns NAME PROG ARG...": it becomes PROG on the host NAME, with
// its own mounts and host name.
func netns() {
	err := errors.New("usage: netns NAME PROG [ARG...]")
	if len(os.Args) >= 3 {
		err = enterAndExec(os.Args[1], os.Args[2:])
	}
	fmt.Fprintf(os.Stderr, "netns: %v\n", err)
	os.Exit(125)
}

func enterAndExec(name string, argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	ns, err := os.Open(filepath.Join(os.Getenv("NETNS"), name))
	if err != nil {
		return err
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", name, err)
	}
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("new namespaces: %w", err)
	}
	if err := lab.PrivateMounts(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	hosts := filepath.Join(os.Getenv("WORK"), "hosts")
	if _, err := os.Stat(hosts); err == nil {
		if err := lab.BindFile(hosts, "/etc/hosts"); err != nil {
			return err
		}
	}
	if dir := lab.RunDir(os.Getenv("WORK"), ""); os.Getenv("IPSEC_RUNDIR") == dir {
		os.Setenv("IPSEC_RUNDIR", filepath.Join(dir, name))
	}
	return unix.Exec(path, argv, os.Environ())
}

// status is the program "status N PROG ARG...": it succeeds if PROG exits with N.
func status() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: status N PROG [ARG...]")
		os.Exit(2)
	}
	want, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "status: bad number %q\n", os.Args[1])
		os.Exit(2)
	}
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		fmt.Fprintf(os.Stderr, "status: %v\n", err)
		os.Exit(125)
	case cmd.ProcessState.ExitCode() != want:
		fmt.Fprintf(os.Stderr, "status: %s: %v, want exit status %d\n", os.Args[2], cmd.ProcessState, want)
		os.Exit(1)
	}
}
