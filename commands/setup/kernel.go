package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/guard"
	"github.com/klips-go/ipsec/klips/user"
)

// kernel is a stack of a kernel. start loads its module if necessary and checks that
// the stack is usable. stop removes everything that commands have made.
type kernel struct {
	env *cli.Env
	// load loads the module if opening the stack fails with classic.ErrNotLoaded; nil:
	// there is no module.
	load func(context.Context) error
}

// start makes the stack available. One that was looks as if it had started.
func (k kernel) start(ctx context.Context) (fresh bool, err error) {
	err = k.available(ctx)
	return err == nil, err
}

func (k kernel) ensure(ctx context.Context) error { return k.available(ctx) }

// available loads the module if necessary, and checks that the stack is usable.
func (k kernel) available(ctx context.Context) error {
	s, err := k.env.Stack(ctx)
	if k.load != nil && errors.Is(err, classic.ErrNotLoaded) {
		if err := k.load(ctx); err != nil {
			return err
		}
		if s, err = k.env.Stack(ctx); err == nil {
			err = firstKnobs(ctx, s)
			return errors.Join(err, s.Close())
		}
		if errors.Is(err, classic.ErrNotLoaded) {
			return fmt.Errorf("a module was loaded that is no KLIPS: %w", err)
		}
	}
	if err != nil {
		return err
	}
	return s.Close()
}

// firstKnobs sets the knobs to the values of KLIPS' setup, right after the module was
// loaded.
func firstKnobs(ctx context.Context, s klips.Stack) error {
	if !s.Info().Has(klips.CapKnobs) {
		return nil
	}
	t, err := s.Snapshot(ctx, klips.Want{Knobs: true})
	if err == nil {
		set := map[string]int{}
		for _, k := range t.Knobs {
			set[k.Name] = 1
		}
		_, err = klips.Do(ctx, s, klips.SetKnobs{Knobs: set})
	}
	if err != nil {
		return fmt.Errorf("the module is loaded, but the knobs are not set: %s", explain.Cause(err))
	}
	return nil
}

// stop removes everything that commands have made, including the virtual devices, and
// opens the flows that were kept from leaving in clear.
func (k kernel) stop(ctx context.Context) error {
	s, err := k.env.Stack(ctx)
	if errors.Is(err, classic.ErrNotLoaded) {
		cli.Notef(k.env, "nothing to stop: %s", explain.Line(err))
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close()
	if err := k.clear(ctx, s); err != nil {
		return err
	}
	if s.Info().Name == "klips" {
		// The devices exist as long as the module is loaded. The routes into them exist
		// as long, and their packets are dropped.
		return k.openAll()
	}
	devices, err := klips.ReadDevices(ctx, s)
	if err != nil {
		return explain.Listing("devices", err)
	}
	for _, d := range devices {
		// Some listed devices do not exist until they are attached.
		if _, err := klips.Do(ctx, s, klips.DeleteDevice{Virtual: d.Name}); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
			return explain.Error(klips.DeleteDevice{}, d.Name, err)
		}
	}
	return k.openAll()
}

// clear removes the eroutes and SAs and detaches the devices, in this order: packets
// that are still routed into a virtual device are then dropped, and not sent in clear.
func (k kernel) clear(ctx context.Context, s klips.Stack) error {
	t, err := s.Snapshot(ctx, klips.Want{Registered: true})
	switch {
	case err != nil:
		return explain.Listing("key daemons", err)
	case t.Registered:
		return fmt.Errorf("a key daemon has registered with stack %s, and its SAs and eroutes would go too; "+
			"nothing is changed: end it first, and each ipsec pf_key, which registers as well", s.Info().Name)
	}
	do := func(c klips.Change) error {
		_, err := klips.Do(ctx, s, c)
		return err
	}
	if err := do(klips.ClearEroutes{}); err != nil {
		return explain.Error(klips.ClearEroutes{}, "", err)
	}
	// A KLIPS kernel with broken groups cannot remove SAs. So it is even more important
	// that no packet reaches them.
	kept := explain.Error(klips.ClearSAs{}, "", do(klips.ClearSAs{}))
	detached := explain.Error(klips.DetachAll{}, "", do(klips.DetachAll{}))
	switch {
	case kept != nil && detached != nil:
		return fmt.Errorf("%w; %w; the eroutes are removed", kept, detached)
	case detached != nil:
		return detached
	case kept != nil:
		return fmt.Errorf("%w; the eroutes are removed and the devices are detached all the same", kept)
	}
	return nil
}

// openAll calls the function openAll with the run directory, if commands have made one.
func (k kernel) openAll() error {
	rundir, err := environ.Rundir(k.env.Getenv)
	if err != nil {
		return err
	}
	err = openAll(rundir)
	if isOwn(rundir) {
		_ = os.Remove(rundir) // fails if other files are in it
	}
	return err
}

// held returns the far ends of transport mode, if the stack protects packets without a
// route into a virtual device.
func (k kernel) held(ctx context.Context) (list []netip.Prefix) {
	s, err := k.env.Stack(ctx)
	if err != nil {
		return nil // the action reports the same error
	}
	defer s.Close()
	if s.Info().Has(klips.CapTransportDevice) {
		return nil
	}
	eroutes, err := klips.ReadEroutes(ctx, s)
	if err != nil {
		return nil
	}
	for _, e := range eroutes {
		if p := e.ID.Proto; (p == klips.ProtoESP || p == klips.ProtoAH || p == klips.ProtoComp) && !slices.Contains(list, e.Dst) {
			list = append(list, e.Dst)
		}
	}
	return list
}

// restart removes what commands have made, and loads the module if necessary. Unlike a
// stop it opens no flows: devices and the routes into them stay, and so do guards.
func (k kernel) restart(ctx context.Context) (fresh bool, err error) {
	s, err := k.env.Stack(ctx)
	if errors.Is(err, classic.ErrNotLoaded) {
		return k.start(ctx)
	}
	if err != nil {
		return false, err
	}
	err = k.clear(ctx, s)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return false, err
	}
	return k.start(ctx)
}

// condrestart does the same if the kernel has the stack.
func (k kernel) condrestart(ctx context.Context) (fresh bool, err error) {
	s, err := k.env.Stack(ctx)
	var none *klips.UnavailableError
	if errors.As(err, &none) && !errors.Is(err, fs.ErrPermission) {
		cli.Notef(k.env, "nothing to restart: %s", explain.Line(err))
		return false, nil
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		return false, err
	}
	return k.restart(ctx)
}

// reload changes nothing on an available stack: a kernel reads no files.
func (k kernel) reload(ctx context.Context) (fresh bool, err error) {
	return false, k.available(ctx)
}

func (k kernel) set(ctx context.Context, words []string) error {
	knobs, err := parseKnobs(words)
	if err != nil {
		return err
	}
	s, err := k.env.Stack(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if !s.Info().Has(klips.CapKnobs) {
		return fmt.Errorf("set: stack %s has no knobs; the stacks user and klips have (--stack)", s.Info().Name)
	}
	return setKnobs(ctx, s, knobs, words)
}

// A kernelStatus holds what status prints.
type kernelStatus struct {
	Stack   string
	Version string
	SAs     int
	Eroutes int
	Devices []klips.Device
	Knobs   []klips.Knob
	Marks   *user.Marks
	Drops   drop.Counts // of packets that belong to no device
	// Unprotected is as in [user.Status].
	Unprotected *guard.Counters
	listing.Abilities
	listing.Oddities
}

func (k kernel) status(ctx context.Context, asJSON bool) error {
	s, err := k.env.Stack(ctx)
	var none *klips.UnavailableError
	if errors.As(err, &none) && !errors.Is(err, fs.ErrPermission) {
		if asJSON {
			err = output.Print(k.env, missing(k.env.StackName, none.Error()))
		} else {
			err = cli.Print(k.env, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "IPsec stopped (stack %s: %s)\n", k.env.StackName, explain.Line(none))
				return err
			})
		}
		if err != nil {
			return err
		}
		return &cli.ExitError{Code: exitStopped}
	}
	if err != nil {
		return err
	}
	defer s.Close()
	st, err := ask(ctx, s)
	if err != nil {
		return err
	}
	if n, ok := guard.ReadCounters(); ok {
		st.Unprotected = &n
	}
	for _, n := range st.Notes() {
		cli.Notef(k.env, "%s", n)
	}
	if asJSON {
		return output.Print(k.env, st.json())
	}
	return cli.Print(k.env, func(w io.Writer) error {
		fmt.Fprintf(w, "IPsec running - stack %s: %s\n", st.Stack, st.Version)
		fmt.Fprintf(w, "%d SAs, %d eroutes\n", st.SAs, st.Eroutes)
		if st.idle() {
			fmt.Fprintln(w, "nothing is set up")
		}
		writeDrops(w, st.Drops)
		writeUnprotected(w, st.Unprotected)
		if st.Marks != nil {
			writeMarks(w, *st.Marks)
		}
		writeDevices(w, st.Devices)
		writeKnobs(w, st.Knobs)
		st.Abilities.Write(w)
		return nil
	})
}

// idle reports whether nothing is left that commands could have made.
func (st *kernelStatus) idle() bool {
	return st.SAs == 0 && st.Eroutes == 0 && len(st.Unread) == 0 && !slices.ContainsFunc(st.Devices, func(d klips.Device) bool { return d.Physical != "" })
}

// ask reads from a stack everything that status prints.
func ask(ctx context.Context, s klips.Stack) (st kernelStatus, err error) {
	st = kernelStatus{Stack: s.Info().Name}
	t, err := s.Snapshot(ctx, klips.Want{Version: true})
	if err != nil {
		return st, explain.Listing("version", err)
	}
	st.Version = t.Version
	sas, err := klips.ReadSAs(ctx, s)
	if err != nil {
		return st, explain.Listing("SAs", err)
	}
	eroutes, err := klips.ReadEroutes(ctx, s)
	if err != nil {
		return st, explain.Listing("eroutes", err)
	}
	st.SAs, st.Eroutes = len(sas), len(eroutes)
	if st.Devices, err = klips.ReadDevices(ctx, s); err != nil {
		return st, explain.Listing("devices", err)
	}
	if st.Oddities, err = listing.ReadOddities(ctx, s, sas); err != nil {
		return st, explain.Listing("tables", err)
	}
	if t, err = s.Snapshot(ctx, klips.Want{Knobs: true, Marks: true}); err != nil {
		return st, explain.Listing("knobs", err)
	}
	st.Knobs = t.Knobs
	if m := t.Marks; m != nil {
		st.Marks = &user.Marks{Statedir: m.Dir, Keys: m.Keys}
		if m.Lost != nil {
			st.Marks.Lost = m.Lost.Error()
		}
	}
	if t, err = s.Snapshot(ctx, klips.Want{Drops: true}); err != nil {
		return st, explain.Listing("dropped packets", err)
	}
	st.Drops = t.Drops
	st.Abilities = listing.Probe(ctx, s)
	return st, nil
}

// writeDevices prints a line for each virtual device, with its MTU in the system.
func writeDevices(w io.Writer, l []klips.Device) {
	for _, d := range l {
		switch {
		case d.Physical != "":
			fmt.Fprintf(w, "%s on %s, mtu %d (%s has %d)\n", d.Name, d.Physical, d.MTU, d.Physical, d.PhysMTU)
		case d.Awaits != "":
			fmt.Fprintf(w, "%s waits until %s is up, mtu %d\n", d.Name, d.Awaits, d.MTU)
		case d.MTU != 0:
			fmt.Fprintf(w, "%s not attached, mtu %d\n", d.Name, d.MTU)
		default:
			fmt.Fprintf(w, "%s not attached\n", d.Name)
		}
	}
}
