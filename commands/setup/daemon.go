package setup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/background"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/host"
)

// A patience holds the limits for waiting. Only a fault takes so long.
type patience struct {
	start time.Duration // for a daemon to become ready
	stop  time.Duration // for a daemon to end
	kill  time.Duration // for a killed daemon to end
	ask   time.Duration // for the answer to a stop request
	turn  time.Duration // for another call of setup, which may stop and start
}

var usual = patience{start: 15 * time.Second, stop: 10 * time.Second, kill: 10 * time.Second, ask: 5 * time.Second, turn: time.Minute}

// daemon is the embedded stack: its daemon in a run directory. Calls that start or stop
// it are serialised (see [user.LockDir]).
type daemon struct {
	env      *cli.Env
	rundir   string
	statedir string
	patience
}

// turn opens and locks the run directory, after the calls before this one have ended.
// makeIt creates it if necessary.
func (d daemon) turn(ctx context.Context, makeIt bool) (*user.Dir, error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience.turn)
	defer cancel()
	dir, err := user.LockDir(ctx, d.rundir, makeIt)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%s: another ipsec setup has been at work there for %v; end it first", d.rundir, d.patience.turn)
	}
	return dir, err
}

// start starts the daemon in the background and returns when its socket answers. A
// running daemon is not an error, and gets a note.
func (d daemon) start(ctx context.Context) (fresh bool, err error) {
	dir, err := d.turn(ctx, true)
	if err != nil {
		return false, d.notMade(err)
	}
	defer dir.Close()
	return d.startIn(ctx, dir)
}

func (d daemon) ensure(ctx context.Context) error {
	if _, err := d.ask(ctx); err == nil {
		return nil
	}
	_, err := d.start(ctx)
	return err
}

// notMade adds what to do if the run directory cannot be made or opened.
func (d daemon) notMade(err error) error {
	var bad *user.RundirError
	if errors.As(err, &bad) {
		return err
	}
	return fmt.Errorf("%w; run it as root, or set IPSEC_RUNDIR to a directory of yours", err)
}

// startIn is start after the lock is taken. Other daemons can still start and end at
// any time: a service manager runs them without the lock.
func (d daemon) startIn(ctx context.Context, dir *user.Dir) (fresh bool, err error) {
	for end := time.Now().Add(d.patience.start); ; {
		pid, err := d.ask(ctx)
		switch {
		case err == nil:
			cli.Notef(d.env, "the stack is running already, pid %d", pid)
			return false, nil
		case !silent(err):
			return false, d.refused(err)
		}
		if pid, err = dir.Holder(); err != nil {
			return false, err
		}
		if pid == 0 {
			err := d.begin(ctx, dir)
			var ended *background.EndedError
			if !errors.As(err, &ended) {
				return err == nil, err
			}
			if pid, _ = dir.Holder(); pid == 0 {
				return false, err
			}
			// Another daemon was faster; it may not answer yet.
		}
		if time.Now().After(end) {
			return false, d.mute(pid)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// begin starts a daemon: by its unit if it has one, else in the background.
func (d daemon) begin(ctx context.Context, dir *user.Dir) error {
	if d.isUnit(ctx) {
		return systemctl(ctx, "start")
	}
	return d.launch(dir, "")
}

// ask returns the process id of the running daemon.
func (d daemon) ask(ctx context.Context) (pid int, err error) {
	c, err := user.Dial(user.SocketPath(d.rundir))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := c.Status(ctx)
	return s.PID, err
}

// silent reports whether an error means that no daemon listens, or that it is ending.
func silent(err error) bool {
	for _, e := range []error{fs.ErrNotExist, syscall.ECONNREFUSED, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ESHUTDOWN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// A notStarted is the error of a daemon that ended before it was ready, with the
// reason.
type notStarted struct {
	why   string
	cause error
}

func (e *notStarted) Error() string { return e.why }
func (e *notStarted) Unwrap() error { return e.cause }

// takeOver is the option of a daemon that takes over the state of another one.
const takeOver = "--take-over"

// launch starts a daemon, with an option unless it is "", and waits until it is ready.
// If the daemon ends before that, the error wraps a *[background.EndedError].
func (d daemon) launch(dir *user.Dir, option string) error {
	log, err := dir.OpenLog()
	if err != nil {
		return d.notMade(err)
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	var options []string
	if option != "" {
		options = append(options, option)
	}
	cmd, err := background.Command("klipsd", options...)
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, "IPSEC_RUNDIR="+d.rundir, "IPSEC_STATEDIR="+d.statedir)
	cmd.Stderr = log
	_, err = background.Start(cmd, d.patience.start)
	var ended *background.EndedError
	switch {
	case errors.Is(err, background.ErrLate):
		return fmt.Errorf("the daemon was not ready within %v; see %s", d.patience.start, log.Name())
	case !errors.As(err, &ended):
		return err
	}
	why := lastLine(log, from)
	if why == "" {
		why = fmt.Sprintf("the daemon ended at once (%v); see %s", ended.State, log.Name())
	}
	return &notStarted{why, err}
}

// maxLog is how many bytes at the end of a log are searched for the daemon's last line.
const maxLog = 1 << 20

// lastLine returns the last line that the daemon has written to its log after the
// position from, without the daemon's name.
func lastLine(log io.ReaderAt, from int64) string {
	b, _ := io.ReadAll(io.NewSectionReader(log, from, maxLog))
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	last := string(lines[len(lines)-1])
	if _, rest, ok := strings.Cut(last, "klipsd: "); ok {
		return rest
	}
	return last
}

// turnIfThere is turn for an existing run directory. If there is none, it prints that
// no daemon runs, and returns nil without an error.
func (d daemon) turnIfThere(ctx context.Context) (*user.Dir, error) {
	dir, err := d.turn(ctx, false)
	if errors.Is(err, fs.ErrNotExist) {
		d.noneRuns()
		return nil, nil
	}
	if err != nil {
		return nil, d.refused(err)
	}
	return dir, nil
}

// stop stops the daemon and returns when the daemon and its devices are gone. A missing
// daemon is not an error: one that ended without a stop has left its devices, and stop
// removes them.
func (d daemon) stop(ctx context.Context) error {
	dir, err := d.turnIfThere(ctx)
	switch {
	case err != nil:
		return err
	case dir == nil:
		return errors.Join(d.removeLeft(), openAll(d.rundir))
	}
	defer dir.Close()
	if err := d.stopIn(ctx, dir, (*user.Client).Stop); err != nil {
		return err
	}
	// Its unit has ended, but not the units that need it.
	var unitErr error
	if d.isUnit(ctx) {
		unitErr = systemctl(ctx, "stop")
	}
	if err := errors.Join(unitErr, d.removeLeft(), openAll(d.rundir)); err != nil {
		return err
	}
	// After a proper stop the log is not needed.
	_ = dir.RemoveLog()
	if isOwn(d.rundir) {
		return dir.Discard()
	}
	return nil
}

// isOwn reports whether a run directory was made by commands for a network namespace. A
// stop removes such a directory.
func isOwn(rundir string) bool { return strings.HasPrefix(rundir, user.DefaultRundir+"/") }

// removeLeft removes the devices that daemons have left.
func (d daemon) removeLeft() error {
	removed, err := host.RemoveLeft()
	if len(removed) > 0 {
		cli.Notef(d.env, "removed %s, which a daemon had left", strings.Join(removed, ", "))
	}
	if err != nil {
		return fmt.Errorf("the devices that a daemon has left stay: %w", err)
	}
	return nil
}

// held returns nothing: all traffic that the embedded stack protects is routed into its
// devices.
func (d daemon) held(context.Context) []netip.Prefix { return nil }

func (d daemon) noneRuns() { cli.Notef(d.env, "no daemon runs in %s", d.rundir) }

// refused adds what to do if this user may not reach the daemon.
func (d daemon) refused(err error) error {
	var bad *user.RundirError
	var peer *pfkey.PeerError
	switch {
	case errors.As(err, &bad):
	case errors.As(err, &peer):
		return fmt.Errorf("%w; nothing was sent; set IPSEC_RUNDIR to another directory", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run it as the user who started the daemon, or as root", err)
	}
	return err
}

// stopIn stops the daemon after the lock is taken; end asks the daemon to end.
func (d daemon) stopIn(ctx context.Context, dir *user.Dir, end func(*user.Client, context.Context) error) error {
	pid, err := dir.Holder()
	if err != nil {
		return d.refused(err)
	}
	if pid == 0 {
		d.noneRuns()
		return dir.RemoveRest()
	}
	c, err := user.Dial(user.SocketPath(d.rundir))
	switch {
	case err == nil:
		pid = c.PeerPID() // the number in its file is that of its own PID namespace
		short, cancel := context.WithTimeout(ctx, d.patience.ask)
		err = end(c, short)
		cancel()
		c.Close()
	case !silent(err):
		return d.refused(err)
	}
	if err == nil && gone(dir, d.patience.stop) {
		return dir.RemoveRest() // a daemon with a user of its own cannot remove its files
	}
	if pid == 0 {
		return errors.New("the daemon does not stop by itself, and is in a PID namespace that cannot be seen from here; end it there")
	}
	if err != nil { // it does not accept requests; use a signal
		if err := kill(pid, unix.SIGTERM); err != nil {
			return err
		}
		if gone(dir, d.patience.stop) {
			return dir.RemoveRest()
		}
	}
	cli.Notef(d.env, "the daemon, pid %d, does not stop by itself: killing it", pid)
	if err := kill(pid, unix.SIGKILL); err != nil {
		return err
	}
	if !gone(dir, d.patience.kill) {
		return fmt.Errorf("the daemon, pid %d, cannot be ended", pid)
	}
	return dir.RemoveRest()
}

// kill signals the daemon, whose pid its lock or socket has confirmed. A daemon that is
// gone is not an error.
func kill(pid int, sig unix.Signal) error {
	if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %d: %w", pid, err)
	}
	return nil
}

// gone waits for the daemon to end.
func gone(dir *user.Dir, limit time.Duration) bool {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		pid, err := dir.Holder()
		if err == nil && pid == 0 {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// renewIn replaces the running daemon by a new one, after the lock is taken. The new
// daemon may have another version. It gets the state of the old one. If that is not
// possible it starts without state, but the devices stay: they keep protected traffic
// from leaving in clear, and the user has not asked to open it.
func (d daemon) renewIn(ctx context.Context, dir *user.Dir) (fresh bool, err error) {
	pid, err := dir.Holder()
	if err == nil && pid != 0 {
		if startNext := d.manager(ctx, d.seenPID(pid)); startNext != nil {
			err = d.renewManaged(ctx, dir, startNext)
		} else {
			err = d.launch(dir, takeOver)
		}
		if err == nil {
			return false, nil
		}
		cli.Notef(d.env, "what the daemon had is lost, and must be made again (%v); until then its devices drop what is routed into them", err)
	}
	if err := d.stopIn(ctx, dir, (*user.Client).Leave); err != nil {
		return false, err
	}
	return d.startIn(ctx, dir)
}

// seenPID returns the process id of the running daemon as this process sees it: pid, the
// number in its file, is that of the daemon's own PID namespace. It returns 0 if the daemon
// cannot be seen.
func (d daemon) seenPID(pid int) int {
	c, err := user.Dial(user.SocketPath(d.rundir))
	if err != nil {
		return pid
	}
	defer c.Close()
	return c.PeerPID()
}

// restart replaces the running daemon, under one lock.
func (d daemon) restart(ctx context.Context) (fresh bool, err error) {
	dir, err := d.turn(ctx, true)
	if err != nil {
		return false, d.notMade(err)
	}
	defer dir.Close()
	return d.renewIn(ctx, dir)
}

// condrestart restarts the daemon if one runs.
func (d daemon) condrestart(ctx context.Context) (fresh bool, err error) {
	dir, err := d.turnIfThere(ctx)
	if dir == nil {
		return false, err
	}
	defer dir.Close()
	pid, err := dir.Holder()
	switch {
	case err != nil:
		return false, d.refused(err)
	case pid == 0:
		d.noneRuns()
		return false, nil
	}
	return d.renewIn(ctx, dir)
}

// reload does not change a running daemon. If no daemon runs, reload starts one.
func (d daemon) reload(ctx context.Context) (fresh bool, err error) {
	_, err = d.ask(ctx)
	switch {
	case err == nil:
		return false, nil
	case !silent(err):
		return false, d.refused(err)
	}
	return d.start(ctx)
}

func (d daemon) set(ctx context.Context, words []string) error {
	knobs, err := parseKnobs(words)
	if err != nil {
		return err
	}
	c, err := user.Dial(user.SocketPath(d.rundir))
	switch {
	case err == nil:
	case silent(err):
		return fmt.Errorf("no daemon runs in %s; start one with: ipsec setup start", d.rundir)
	default:
		return d.refused(err)
	}
	defer c.Close()
	return setKnobs(ctx, c, knobs, words)
}

// dial connects to the daemon. A daemon that is ending or not ready yet holds the run
// directory and does not answer; dial waits until it is gone or answers.
func (d daemon) dial() (*user.Client, error) {
	for end := time.Now().Add(d.patience.stop); ; time.Sleep(20 * time.Millisecond) {
		c, err := user.Dial(user.SocketPath(d.rundir))
		if err == nil || !silent(err) {
			return c, err
		}
		dir, derr := user.OpenDir(d.rundir)
		if derr != nil {
			return nil, err
		}
		pid, derr := dir.Holder()
		dir.Close()
		switch {
		case derr != nil || pid == 0:
			return nil, err
		case time.Now().After(end):
			return nil, d.mute(pid)
		}
	}
}

// mute returns the error that a daemon does not answer.
func (d daemon) mute(pid int) error {
	return fmt.Errorf("a daemon, pid %d, has %s and does not answer; end it with: ipsec setup stop", pid, d.rundir)
}

func (d daemon) status(ctx context.Context, asJSON bool) error {
	c, err := d.dial()
	if err != nil {
		if !silent(err) {
			return d.refused(err)
		}
		return d.stopped(asJSON)
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return output.Print(d.env, statusList("user", daemonStatus(s)))
	}
	return cli.Print(d.env, func(w io.Writer) error {
		fmt.Fprintf(w, "IPsec running - pid: %d\n", s.PID)
		fmt.Fprintf(w, "stack user %s in %s, up %v\n", s.Version, s.Rundir, time.Duration(s.Uptime)*time.Second)
		fmt.Fprintf(w, "%d SAs, %d eroutes\n", s.SAs, s.Eroutes)
		writeHolds(w, s.Holds)
		writeDrops(w, s.Drops)
		writeUnprotected(w, s.Unprotected)
		writeMarks(w, s.Marks)
		writeRights(w, s.Rights)
		writeDevices(w, s.Devices)
		writeKnobs(w, s.Knobs)
		return nil
	})
}

// stopped prints that no daemon runs, and the devices that the last one has left.
func (d daemon) stopped(asJSON bool) error {
	left, _ := host.Left() // a status without them is better than none
	var err error
	if asJSON {
		err = output.Print(d.env, statusList("user", stoppedDaemon(d.rundir, left)))
	} else {
		err = cli.Print(d.env, func(w io.Writer) error {
			fmt.Fprintf(w, "IPsec stopped (stack user, %s); start it with: ipsec setup start\n", d.rundir)
			for _, l := range left {
				on := ""
				if l.Physical != "" {
					on = " on " + l.Physical
				}
				fmt.Fprintf(w, "%s%s is left and drops what is routed into it, until a daemon takes it up (ipsec setup start) or it is removed (ipsec setup stop)\n", l.Name, on)
			}
			return nil
		})
	}
	if err != nil {
		return err
	}
	return &cli.ExitError{Code: exitStopped}
}

// writeMarks prints where the sequence marks of keys are stored.
func writeMarks(w io.Writer, m user.Marks) {
	switch {
	case m.Statedir == "":
		fmt.Fprintln(w, "sequence marks are not kept: no state directory (IPSEC_STATEDIR)")
	case m.Lost != "":
		fmt.Fprintf(w, "sequence marks are not kept: %s\n", m.Lost)
	default:
		fmt.Fprintf(w, "sequence marks of %d keys in %s\n", m.Keys, m.Statedir)
	}
}

// writeRights prints what the daemon's process may do, and what it could not give up.
func writeRights(w io.Writer, r *confine.Rights) {
	if r == nil {
		return
	}
	fmt.Fprintf(w, "the daemon has user %s, capabilities: %s; given up: %s\n",
		cmp.Or(r.User, strconv.Itoa(r.UID)), words(r.Capabilities), words(r.Without))
	for _, f := range r.Refused {
		fmt.Fprintf(w, "not given up: %s: %s\n", f.Right, f.Why)
	}
}

// words joins words, or returns "none".
func words[T ~string](list []T) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(s))
	}
	return cmp.Or(b.String(), "none")
}

// writeDrops prints, for each reason, how many packets that belong to no device were
// dropped, if any were.
func writeDrops(w io.Writer, c drop.Counts) {
	if len(c) > 0 {
		fmt.Fprintf(w, "packets that belong to no device and went no further: %v\n", c)
	}
}

// writeHolds prints the packets that are kept for eroutes, if there are or were any.
func writeHolds(w io.Writer, h user.Holds) {
	if h.Held == 0 && h.Expired == 0 && h.Evicted == 0 {
		return
	}
	fmt.Fprintf(w, "packets held for %d of at most %d eroutes, given up: %d too old, %d too many\n", h.Held, h.Max, h.Expired, h.Evicted)
}
