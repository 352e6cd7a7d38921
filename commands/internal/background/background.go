// Package background starts this program another time, to go on when the command
// has returned, and learns from it when it is ready.
package background

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// ready is what the other process writes to its file descriptor.
const ready = "ready\n"

// readyFD is that file descriptor: the first after standard error.
const readyFD = 3

// ErrLate is the error of a process that was not ready in time, and was killed.
var ErrLate = errors.New("it was not ready in time")

// An EndedError says that the process ended before it was ready.
type EndedError struct{ State *os.ProcessState }

func (e *EndedError) Error() string { return "it ended at once: " + e.State.String() }

// Command makes the command for an applet, which has the option --ready-fd. It
// is in a session of its own, and its name is the program's, whatever link this
// one was called by.
func Command(applet string, args ...string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, append([]string{applet, "--ready-fd", strconv.Itoa(readyFD)}, args...)...)
	cmd.Args[0] = "ipsec"
	cmd.Env = os.Environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// Start starts a command that Command has made and returns its process id when it
// is ready. Errors are [ErrLate], an *[EndedError] or the system's.
func Start(cmd *exec.Cmd, limit time.Duration) (pid int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
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

// Ready tells who waits in Start, by the file descriptor that --ready-fd named.
func Ready(fd int) {
	f := os.NewFile(uintptr(fd), "ready")
	defer f.Close()
	_, _ = f.WriteString(ready)
}
