package setup

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/background"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips/user"
)

// How long a daemon may take to start and to stop.
const (
	startTimeout = 15 * time.Second
	stopTimeout  = 10 * time.Second
)

// daemon is the embedded stack: its daemon in a run directory.
type daemon struct {
	env    *cli.Env
	rundir string
}

// start starts the daemon in the background and returns when its socket answers.
// One that runs already is no error.
func (d daemon) start(ctx context.Context) error {
	rundir := d.rundir
	if c, err := user.Dial(user.SocketPath(rundir)); err == nil {
		defer c.Close()
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		cli.Notef(d.env, "the stack is running already, pid %d", s.PID)
		return nil
	}
	if err := os.MkdirAll(rundir, 0o700); err != nil {
		return fmt.Errorf("%w; run it as root, or set IPSEC_RUNDIR to a directory of yours", err)
	}
	log, err := os.OpenFile(user.LogPath(rundir), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("%w; run it as root, or set IPSEC_RUNDIR to a directory of yours", err)
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd, err := background.Command("klipsd")
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, "IPSEC_RUNDIR="+rundir)
	cmd.Dir = "/"
	cmd.Stderr = log
	_, err = background.Start(cmd, startTimeout)
	var ended *background.EndedError
	switch {
	case errors.Is(err, background.ErrLate):
		return fmt.Errorf("the daemon was not ready within %v; see %s", startTimeout, log.Name())
	case !errors.As(err, &ended):
		return err
	}
	if why := lastLine(log.Name(), from); why != "" {
		return errors.New(why)
	}
	return fmt.Errorf("the daemon ended at once (%v); see %s", ended.State, log.Name())
}

// lastLine returns the daemon's last words, without its name.
func lastLine(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return ""
	}
	b, _ := io.ReadAll(bufio.NewReader(f))
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	last := string(lines[len(lines)-1])
	if _, rest, ok := strings.Cut(last, "klipsd: "); ok {
		return rest
	}
	return last
}

// stop stops the daemon and returns when it is gone, and with it its devices.
// None to stop is no error.
func (d daemon) stop(ctx context.Context) error {
	rundir := d.rundir
	pid, err := running(rundir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run it as the user who started the daemon, or as root", err)
	case err != nil:
		return err
	case pid == 0:
		cli.Notef(d.env, "no daemon runs in %s", rundir)
		return nil
	}
	c, err := user.Dial(user.SocketPath(rundir))
	if err == nil {
		err = c.Stop(ctx)
		c.Close()
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; run it as the user who started the daemon, or as root", err)
	}
	if gone(rundir) {
		tidy(rundir)
		return nil
	}
	// It does not listen any more: end it by its pid, which the lock vouches for.
	cli.Notef(d.env, "the daemon, pid %d, does not stop by itself: killing it", pid)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %d: %w", pid, err)
	}
	if !gone(rundir) {
		return fmt.Errorf("the daemon, pid %d, cannot be ended", pid)
	}
	_ = os.Remove(user.SocketPath(rundir))
	_ = os.Remove(user.LockPath(rundir))
	return nil
}

// tidy removes what the daemon itself does not: its log, which has nothing to
// tell after a proper stop, and the run directory if setup made it.
func tidy(rundir string) {
	_ = os.Remove(user.LogPath(rundir))
	if strings.HasPrefix(rundir, user.DefaultRundir+"/") {
		_ = os.Remove(rundir)
	}
}

// gone waits for the daemon to end.
func gone(rundir string) bool {
	for end := time.Now().Add(stopTimeout); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if pid, err := running(rundir); err != nil || pid == 0 {
			return true
		}
	}
	return false
}

// running returns the process id of the daemon that holds the lock of a run
// directory, 0 if none does.
func running(rundir string) (int, error) {
	f, err := os.OpenFile(user.LockPath(rundir), os.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
		return 0, nil // left over by one that was killed
	case unix.EWOULDBLOCK:
	default:
		return 0, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%s: no process id in it", f.Name())
	}
	return pid, nil
}

func (d daemon) set(ctx context.Context, words []string) error {
	knobs, err := parseKnobs(words)
	if err != nil {
		return err
	}
	rundir := d.rundir
	c, err := user.Dial(user.SocketPath(rundir))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: no permission to talk to the daemon; run this as the user who started it, or as root", rundir)
	case err != nil:
		return fmt.Errorf("no daemon runs in %s; start one with: ipsec setup start", rundir)
	}
	defer c.Close()
	if err := c.Set(ctx, knobs); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set %s: there is no such knob; ipsec setup status lists them", strings.Join(words, " "))
		}
		return err
	}
	return nil
}

func (d daemon) status(ctx context.Context, asJSON bool) error {
	rundir := d.rundir
	c, err := user.Dial(user.SocketPath(rundir))
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%s: no permission to ask the daemon; run this as the user who started it, or as root", rundir)
		}
		if err := cli.Print(d.env, func(w io.Writer) error {
			if asJSON {
				return json.NewEncoder(w).Encode(map[string]any{"running": false, "stack": "user", "rundir": rundir})
			}
			_, err := fmt.Fprintf(w, "IPsec stopped (stack user, %s); start it with: ipsec setup start\n", rundir)
			return err
		}); err != nil {
			return err
		}
		return &cli.ExitError{Code: exitStopped}
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	return cli.Print(d.env, func(w io.Writer) error {
		if asJSON {
			return json.NewEncoder(w).Encode(struct {
				Running bool   `json:"running"`
				Stack   string `json:"stack"`
				user.Status
			}{true, "user", s})
		}
		fmt.Fprintf(w, "IPsec running - pid: %d\n", s.PID)
		fmt.Fprintf(w, "stack user %s in %s, up %v\n", s.Version, s.Rundir, time.Duration(s.Uptime)*time.Second)
		fmt.Fprintf(w, "%d SAs, %d eroutes\n", s.SAs, s.Eroutes)
		writeDevices(w, s.Devices)
		for _, k := range s.Knobs {
			fmt.Fprintf(w, "%s=%d\n", k.Name, k.Value)
		}
		return nil
	})
}
