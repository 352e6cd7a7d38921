package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/guard"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// firstDevices exist from the start, as after loading the KLIPS module.
var firstDevices = []string{"ipsec0", "ipsec1"}

// A Config holds the settings of a daemon.
type Config struct {
	// Place is the daemon's place in its run directory; Run closes it. nil: Run takes
	// the place in Rundir, see [Take].
	Place   *Place
	Rundir  string
	Version string // of the program
	// Statedir is the directory for the marks of sequence numbers, see package marks;
	// it is made if missing, mode 0700. Empty: no marks are kept.
	Statedir string
	// State is that directory, if [marks.Give] has opened it; Run closes it. nil: Run
	// opens Statedir.
	State *os.File
	// StateProblem is why another process could not open that directory, as text; "" if
	// it has, or if Run is to open it.
	StateProblem string
	// Log is not nil. On level Debug it gets the lines that the debug masks ask for.
	Log *slog.Logger
	// Debug switches on all areas of the debug log, as klipsdebug --all does.
	Debug bool
	Host  engine.Host // nil: this machine
	// Filter stops flows from leaving and arriving in clear. nil: this machine's packet
	// filter, or none if Host is given.
	Filter Filter
	Clock  clock.Clock // nil: this machine's
	// TakeOver: the daemon takes over from the one that runs in Rundir, see [Take]. It
	// has no effect if Place is given. If the state cannot be read, the error is one of
	// package handover.
	TakeOver bool
	// Rights returns what the daemon may do, for its status; may be nil.
	Rights func() confine.Rights
	// Memory is the limit in bytes for what clients create, see engine.Config.
	Memory uint64
	// Lanes is how many SAs packets can be handled for at the same time, see engine.Config.
	Lanes int
	// Ready is called when the socket answers; may be nil.
	Ready func()
	// Clients is called with 1 when a client has come, and with -1 when one has gone and its
	// last request is done; may be nil. Several goroutines call it.
	Clients func(change int)
}

// Run runs a daemon until ctx ends or a client asks it to stop; then it removes its
// socket and files.
//
// Devices that were ever attached stay, and drop the packets that are routed into them,
// unless the client has asked to remove them: protected packets do not leave in clear
// when a daemon ends. Run takes up devices that an earlier daemon left, with the same
// attachments.
//
// If another daemon has the run directory, the error is a *[user.Running]; if the
// directory cannot be trusted, a *[user.RundirError].
func Run(ctx context.Context, c Config) error {
	if c.Clock == nil {
		c.Clock = clock.System
	}
	limits := newLimits(c.Log.Handler(), c.Clock)
	defer limits.flush()
	c.Log = slog.New(limits)
	// Keys must not reach the disk in a core dump, nor another process of the same user
	// through ptrace.
	if err := confine.NoDumps(); err != nil {
		c.Log.Warn("core dumps stay possible", "err", err)
	}
	unix.Umask(0o077)
	place, err := c.Place, error(nil)
	if place == nil {
		if place, err = Take(ctx, c.Rundir, c.TakeOver); err != nil {
			return err
		}
	}
	c.Rundir = place.rundir
	defer place.Close()
	state, fds, err := place.open()
	if err != nil {
		return err
	}
	noFilter := errors.New("the host has no packet filter")
	if c.Host == nil {
		h, err := openHost(fds)
		if err != nil {
			return err
		}
		defer h.Close()
		c.Host = h
		if c.Filter == nil {
			t, err := guard.Open()
			if err == nil {
				defer t.Close()
				c.Filter = t
			}
			noFilter = err
		}
	}
	keeping := &marksState{dir: c.Statedir, opened: c.State, problem: c.StateProblem, log: c.Log}
	keeping.open(ctx, c.Clock)
	defer keeping.close() // after the engine
	eng, err := resume(c.Host, engine.Config{
		Version: "ipsec version: " + c.Version, Clock: c.Clock, Memory: c.Memory, Lanes: c.Lanes, Log: c.Log, Marks: keeping.file, MarksLost: keeping.lost,
	}, state)
	if err != nil {
		return err
	}
	defer eng.Close()
	if c.Debug {
		if err := eng.SetDebug(ctx, everyArea()); err != nil {
			return err
		}
	}
	err = eng.TakeUp(func(device string, err error) {
		c.Log.Warn("a device that was left is not attached", "device", device, "err", err)
	})
	if err != nil {
		return err
	}
	for _, d := range firstDevices {
		if state != nil {
			break // the other daemon's devices exist already
		}
		if err := eng.CreateDevice(ctx, d); err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{
		place: place, rights: c.Rights,
		eng: eng, log: c.Log, clock: c.Clock, stop: cancel,
		started: c.Clock.Now(), turn: newTurn(c.Clock), counted: c.Clients, rundir: c.Rundir, version: c.Version, marks: keeping,
	}
	if h, ok := c.Host.(interface{ MTU(string) (int, error) }); ok {
		s.mtu = h.MTU
	}
	s.watchAddrs(&c)
	if h, ok := c.Host.(interface{ OfferPorts([]int) }); ok {
		s.offerPorts = h.OfferPorts
	}
	if h, ok := c.Host.(interface{ Descriptors() ([]int, error) }); ok {
		s.descriptors = h.Descriptors
	}
	s.clients.slow = s.slow
	eng.SetEvents(s)
	if err := eng.KeepDevices(); err != nil {
		return err
	}
	place.count(eng.Count())
	s.guards = newGuards(c.Filter, noFilter, eng, c.Log, c.Clock)
	s.guards.takeUp(state != nil)
	guarding := make(chan struct{})
	go func() {
		defer close(guarding)
		s.guards.run(ctx)
	}()
	if c.Ready != nil {
		c.Ready()
	}
	if state != nil {
		c.Log.Info("taken over", "sas", len(state.SAs.SAs), "eroutes", len(state.Eroutes), "devices", len(state.Devices))
	}
	c.Log.Info("running", "rundir", c.Rundir, "pid", os.Getpid())
	err = s.serve(ctx, place.listener)
	c.Log.Info("stopping")
	cancel()
	<-guarding
	if s.removes.Load() {
		eng.RemoveDevices()
		s.guards.open()
	}
	return err
}

// lockPatience is how long Run waits for the lock of a killed daemon: the kernel keeps
// it until it has removed the devices.
const lockPatience = time.Second

// takeOverPatience is how long a handover may take, and then the end of the other
// daemon.
const takeOverPatience = 10 * time.Second
