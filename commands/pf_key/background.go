package pf_key

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
)

// readyTimeout is how long registering may take.
const readyTimeout = 30 * time.Second

// readyText is what is written to the file descriptor of --ready-fd.
const readyText = "ready\n"

// background starts this program again to do the work, and returns when that
// one has registered: what happens from then on will be printed. It prints to
// the standard output that this one has.
func background(env *cli.Env, req *request) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	// The file is named from here, wherever the other process is.
	if req.daemon, err = filepath.Abs(req.daemon); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(exe, append([]string{"pf_key", "--ready-fd", "3"}, req.args()...)...)
	cmd.Args[0] = "ipsec" // its name, whatever link this was called by
	if req.Label != "" {
		cmd.Args = append(cmd.Args, "--label", req.Label)
	}
	cmd.Env = os.Environ()
	if env.StackName != "" {
		cmd.Env = append(cmd.Env, "IPSEC_STACK="+env.StackName)
	}
	cmd.Stdout, cmd.Stderr = env.Out, env.Err
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	_ = r.SetReadDeadline(time.Now().Add(readyTimeout))
	said, err := io.ReadAll(r)
	if string(said) == readyText {
		req.Debugf(env, "goes on as process %d", cmd.Process.Pid)
		return cmd.Process.Release()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return errors.New("the stack did not answer in time")
	}
	// It has said what is wrong.
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code > 0 {
		return &cli.ExitError{Code: code}
	}
	return errors.New("the process in the background ended: " + cmd.ProcessState.String())
}

// ready tells who waits in background. From then on nobody reads the standard
// error, and a program that waits for its end does not wait for this one.
func ready(fd int) {
	f := os.NewFile(uintptr(fd), "ready")
	defer f.Close()
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		_ = unix.Dup3(int(null.Fd()), int(os.Stderr.Fd()), 0)
		null.Close()
	}
	_, _ = f.WriteString(readyText)
}

// writePID writes this process's id to a file, without a newline; a failure is
// told and changes nothing else. remove removes the file again.
func writePID(env *cli.Env, name string) (remove func()) {
	if err := os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		cli.Notef(env, "the process id is not written: %v", err)
		return func() {}
	}
	return func() { _ = os.Remove(name) }
}
