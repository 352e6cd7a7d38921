// Package background starts this program as a second process that continues after the
// command has returned, and waits until it is ready. The second process inherits no
// file descriptors except those that it is given, no controlling terminal, and no
// working directory.
package background

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ready is what the second process writes when it is ready.
const ready = "ready\n"

// readyFD is the file descriptor that it writes to: the first after standard error.
const readyFD = 3

// ErrLate means that the process was not ready in time, and was killed.
var ErrLate = errors.New("it was not ready in time")

// An EndedError means that the process ended before it was ready.
type EndedError struct{ State *os.ProcessState }

func (e *EndedError) Error() string { return "it ended at once: " + e.State.String() }

// pathVariables are the environment variables that hold paths. A relative path is
// relative to the working directory of the command, and the second process has another
// one.
var pathVariables = [...]string{"IPSEC_RUNDIR", "IPSEC_PFKEY_SOCKET", "IPSEC_PROC_NET", "IPSEC_PROC_SYS"}

// Command returns the command for an applet that has the option --ready-fd, see
// [Detached].
func Command(applet string, args ...string) (*exec.Cmd, error) {
	return Detached(applet, append([]string{"--ready-fd", strconv.Itoa(readyFD)}, args...)...)
}

// Detached returns the command for an applet. It runs in its own session and in the root
// directory. Its name is that of the program, also where the caller was started through a
// link. By default its standard input and outputs are /dev/null.
func Detached(applet string, args ...string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, append([]string{applet}, args...)...)
	cmd.Args[0] = "ipsec"
	cmd.Dir = "/"
	if cmd.Env, err = environ(os.Environ()); err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// Launch starts a command of [Detached], and does not wait for it.
func Launch(cmd *exec.Cmd) error {
	if err := start(cmd); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// environ makes the paths of an environment absolute.
func environ(env []string) ([]string, error) {
	env = slices.Clone(env)
	for i, v := range env {
		name, path, _ := strings.Cut(v, "=")
		if path == "" || !slices.Contains(pathVariables[:], name) {
			continue
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		env[i] = name + "=" + abs
	}
	return env, nil
}

// Start starts a command of [Command], and returns its process id when it is ready.
// Errors are [ErrLate], an *[EndedError] or the system's.
func Start(cmd *exec.Cmd, limit time.Duration) (pid int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	err = start(cmd)
	w.Close()
	if err != nil {
		return 0, err
	}
	pid = cmd.Process.Pid
	_ = r.SetReadDeadline(time.Now().Add(limit))
	said, err := io.ReadAll(r)
	if string(said) == ready {
		return pid, cmd.Process.Release()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return pid, ErrLate
	}
	_ = cmd.Wait()
	return pid, &EndedError{cmd.ProcessState}
}

// start starts a command with no more file descriptors than it is given. The command
// ignores SIGHUP from the start, because it has no terminal.
func start(cmd *exec.Cmd) error {
	if err := CloseOnExec(); err != nil {
		return err
	}
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Ignore(syscall.SIGHUP)
		defer func() { // signal.Reset does not undo signal.Ignore
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGHUP)
			signal.Stop(c)
		}()
	}
	return cmd.Start()
}

// Ready reports to the process that waits in Start, by the file descriptor of
// --ready-fd, that this one is ready.
func Ready(fd int) {
	f := os.NewFile(uintptr(fd), "ready")
	defer f.Close()
	_, _ = f.WriteString(ready)
}
