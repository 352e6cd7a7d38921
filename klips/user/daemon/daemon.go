package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/host"
)

// firstDevices are there from the start, as after loading the KLIPS module.
var firstDevices = []string{"ipsec0", "ipsec1"}

// A Config says how to run.
type Config struct {
	Rundir  string       // made if missing, mode 0700
	Version string       // of the program
	Log     *slog.Logger // not nil
	Host    engine.Host  // nil: this machine
	Clock   clock.Clock  // nil: this machine's
	// Ready is called when the socket answers; may be nil.
	Ready func()
}

// ErrRunning is returned by Run when another daemon has the run directory.
type ErrRunning struct{ PID int }

func (e *ErrRunning) Error() string {
	return fmt.Sprintf("a daemon with process id %d is running already", e.PID)
}

// Run runs a daemon until ctx ends or a client asks it to stop; then it removes
// its devices, socket and files.
func Run(ctx context.Context, c Config) error {
	// Keys must not reach the disk by a core dump, nor another process of the
	// same user by ptrace.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		c.Log.Warn("core dumps stay possible", "err", err)
	}
	unix.Umask(0o077)
	if err := os.MkdirAll(c.Rundir, 0o700); err != nil {
		return err
	}
	lock, err := takeLock(user.LockPath(c.Rundir))
	if err != nil {
		return err
	}
	defer func() {
		os.Remove(lock.Name())
		lock.Close()
	}()
	if c.Host == nil {
		h, err := host.Open()
		if err != nil {
			return err
		}
		defer h.Close()
		c.Host = h
	}
	eng, err := engine.New(c.Host, engine.Config{Version: "ipsec version: " + c.Version, Clock: c.Clock})
	if err != nil {
		return err
	}
	defer eng.Close()
	for _, d := range firstDevices {
		if err := eng.CreateDevice(ctx, d); err != nil {
			return err
		}
	}
	// A socket that is left over belongs to nobody: we hold the lock.
	path := user.SocketPath(c.Rundir)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return err
	}
	defer ln.Close() // removes the socket too
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{eng: eng, log: c.Log, stop: cancel, started: time.Now(), rundir: c.Rundir, version: c.Version}
	s.audience.deaf = s.deaf
	eng.SetEvents(s)
	if c.Ready != nil {
		c.Ready()
	}
	c.Log.Info("running", "rundir", c.Rundir, "pid", os.Getpid())
	err = s.serve(ctx, ln)
	c.Log.Info("stopping")
	return err
}

// lockPatience is for a daemon that was killed: the kernel keeps its lock until
// it has taken the devices down.
const lockPatience = time.Second

// takeLock makes this process the only daemon of its run directory. The lock
// goes with the process, however that ends.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for end := time.Now().Add(lockPatience); err == unix.EWOULDBLOCK && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &ErrRunning{PID: readPID(path)}
		}
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.WriteString(strconv.Itoa(os.Getpid()) + "\n"); err != nil {
		// A full disk: better no daemon than one that cannot be found.
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return f, nil
}

func readPID(path string) int {
	b, _ := os.ReadFile(path)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}
