package pf_key

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/background"
	"github.com/klips-go/ipsec/commands/internal/cli"
)

// readyTimeout is how long registering may take.
const readyTimeout = 30 * time.Second

// inBackground starts this program again to do the work, and returns when the second
// process has registered: from then on it prints all messages. Both processes have the
// same standard output.
func inBackground(env *cli.Env, req *request) error {
	// The path of the file must not depend on the working directory of the second
	// process.
	var err error
	if req.daemon, err = filepath.Abs(req.daemon); err != nil {
		return err
	}
	cmd, err := background.Command("pf_key", req.args()...)
	if err != nil {
		return err
	}
	if req.Label != "" {
		cmd.Args = append(cmd.Args, "--label", req.Label)
	}
	if env.StackName != "" {
		cmd.Env = append(cmd.Env, "IPSEC_STACK="+env.StackName)
	}
	cmd.Stdout, cmd.Stderr = env.Out, env.Err
	pid, err := background.Start(cmd, readyTimeout)
	var ended *background.EndedError
	switch {
	case errors.Is(err, background.ErrLate):
		return errors.New("the stack did not answer in time")
	case errors.As(err, &ended) && ended.State.ExitCode() > 0:
		return &cli.ExitError{Code: ended.State.ExitCode()} // it has printed its error
	case ended != nil:
		return errors.New("the process in the background ended: " + ended.State.String())
	case err == nil:
		req.Debugf(env, "goes on as process %d", pid)
	}
	return err
}

// ready reports to the process that waits in inBackground. It then closes standard
// error, so that a program that waits for its end does not wait for this process.
func ready(fd int) {
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		_ = unix.Dup3(int(null.Fd()), int(os.Stderr.Fd()), 0)
		null.Close()
	}
	background.Ready(fd)
}

// writePID writes this process's id to a file, without a newline. A failure is only
// reported. remove removes the file.
func writePID(env *cli.Env, name string) (remove func()) {
	if err := os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		cli.Notef(env, "the process id is not written: %v", err)
		return func() {}
	}
	return func() { _ = os.Remove(name) }
}
