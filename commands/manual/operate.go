package manual

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/sysctls"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A configuration is a file and the host that it is read for.
type configuration struct {
	file     *conf.File
	bindings []host.Binding
	copyTOS  bool // of connections
	host     host.Host
	me       host.Identity
	controls []sysctls.Setting
	attaches bool // see connection
	noted    bool // the notes about the file have been printed
}

// configure reads a file for a host. me is its identity, if given.
func configure(l conf.Loader, file string, h host.Host, me host.Identity) (*configuration, error) {
	f := &configuration{host: h, me: me}
	var err error
	if f.file, err = l.Load(file); err != nil {
		return nil, err
	}
	if f.copyTOS, err = copiesTOS(f.file.Setup("hidetos")); err != nil {
		return nil, err
	}
	if f.bindings, err = interfaces(f.file.Setup("interfaces"), h); err != nil {
		return nil, err
	}
	f.controls, err = controls(f.file, f.bindings)
	return f, err
}

// copiesTOS parses hidetos=. In KLIPS it was for all tunnels, and yes by default; here
// it is for connections, and they copy unless the file has yes.
func copiesTOS(p conf.Param) (bool, error) {
	hide, err := yes(p)
	return !hide, err
}

// about adds the name of the connection to an error, unless the error names a place in the
// file.
func (x *executor) about(err error) error {
	var e *conf.Error
	switch {
	case err == nil || errors.As(err, &e):
		return err
	case x.of == nil:
		return fmt.Errorf("conn %s: %s", x.conn.name, explain.Line(err))
	}
	return x.of.Errorf("%s", explain.Line(err))
}

// connection returns the connection of one or more conns.
func (f *configuration) connection(names []string, other bool) (*connection, *conf.Conn, error) {
	c, pair, err := f.conn(names)
	if err != nil {
		return nil, nil, err
	}
	k, err := understand(c, f.bindings, f.host, f.me, other)
	if err != nil {
		return nil, c, err
	}
	k.copyTOS, k.attaches = f.copyTOS, f.attaches
	if f.attaches || c.Has("masterkey") { // "ipsec manual" makes what KLIPS made
		k.defaultWindows(c)
	}
	k.base += shift(pair)
	if err := f.reached(k); err != nil {
		return k, c, err
	}
	if err := k.checkEpoch(); err != nil && c.Has("epoch") {
		return k, c, c.Get("epoch").Error(err.Error())
	} else if err != nil {
		return k, c, c.Errorf("epoch %d: %v", k.epoch, err)
	}
	return k, c, nil
}

// reached raises the epoch of a connection with a master key to the one that this host has
// reached: an earlier one would bring earlier keys back.
func (f *configuration) reached(k *connection) error {
	if k.master.Value == "" {
		return nil
	}
	list, err := f.host.Epochs()
	if err != nil {
		return err
	}
	k.epoch = max(k.epoch, list[k.name])
	return nil
}

// notes prints the notes about a connection, and once those about the whole file.
func (f *configuration) notes(env *cli.Env, k *connection) {
	for _, p := range f.file.SetupUnknown(knownSetup) {
		if !f.noted {
			cli.Notef(env, "%v", p.Error(setupHint(p.Name)))
		}
	}
	f.noted = true
	for _, n := range k.notes {
		cli.Notef(env, "conn %s: %s", k.name, n)
	}
}

// of returns a function that returns the words for the connection of the file that an
// object can belong to, except but; empty: none.
func (f *configuration) of(but *connection) func(o object) string {
	return func(o object) string {
		if f.file == nil {
			return ""
		}
		quick := &configuration{file: f.file, bindings: f.bindings, host: &remembered{Host: f.host}, me: f.me}
		for _, name := range f.file.Names() {
			if name == but.name {
				continue
			}
			for _, name := range f.pairs(name) {
				if k, _, err := quick.connection([]string{name}, false); err == nil && k.name != but.name && k.has(o) {
					return fmt.Sprintf(" (it can be of conn %s)", name)
				}
			}
		}
		return ""
	}
}

// has reports whether an object can belong to the connection.
func (k *connection) has(o object) bool {
	if o.eroute != nil {
		return o.eroute.Selector == k.selector() && o.eroute.ID.String() == k.said().String()
	}
	for to := range k.ends {
		for _, s := range k.sas(to) {
			if s.id == o.id && k.ends[1-to].addr == o.sa.Src {
				return true
			}
		}
	}
	return false
}

// remembered is a host whose addresses are read only once. It looks no names up: it is for
// notes, which must not wait for name servers.
type remembered struct {
	host.Host
	asked     bool
	own, rest []host.Identity
	err       error
}

func (r *remembered) Identities(bindings []host.Binding) (own, rest []host.Identity, err error) {
	if !r.asked {
		r.own, r.rest, r.err = r.Host.Identities(bindings)
		r.asked = true
	}
	return r.own, r.rest, r.err
}

func (r *remembered) LookUp(string, syntax.Family) (netip.Addr, error) {
	return netip.Addr{}, errors.New("not looked up")
}

// look reads the situation from the stack and the host.
func (x *executor) look(ctx context.Context) (*situation, error) {
	stack, err := x.Env.Stack(ctx)
	if err != nil {
		return nil, err
	}
	defer stack.Close()
	return look(ctx, stack, x.conn, x.Net)
}

// operate carries out an operation in a situation, and prints a note if packets leave
// in clear afterwards.
func (x *executor) operate(ctx context.Context, operation string, at *situation, f *configuration) error {
	was := x.open(at)
	err := x.carryOut(ctx, operation, at, f)
	if !was && x.opened(ctx, at) {
		x.Note("%s can leave in clear now", klips.FormatPrefix(x.conn.peer().subnet))
	}
	return err
}

// open reports whether packets to the peer leave in clear in a situation.
func (x *executor) open(at *situation) bool {
	switch up := at.flow().own(); {
	case up && x.conn.shunt == "%pass":
		return true // on any route
	case up && at.past:
		return false
	}
	return x.passes()
}

// opened reports whether an operation has changed the situation at so that packets to
// the peer leave in clear.
func (x *executor) opened(ctx context.Context, at *situation) bool {
	if !at.past {
		return x.passes()
	}
	now, err := x.look(ctx)
	return err == nil && x.open(now)
}

// passes reports whether a route leads packets to the peer past the virtual devices.
func (x *executor) passes() bool {
	return slices.ContainsFunc(halves(x.conn.peer().subnet), func(dst netip.Prefix) bool {
		device, err := x.Net.Exit(dst)
		return err == nil && device != "" && !links.IsVirtual(device)
	})
}

// carryOut carries out an operation in a situation.
func (x *executor) carryOut(ctx context.Context, operation string, at *situation, f *configuration) error {
	k := x.conn
	of := f.of(k)
	x.Plan = makePlan(k, operation, at)
	switch operation {
	case "up", "route":
		err := at.routeInWay(k)
		if operation == "up" {
			err = cmp.Or(at.up(k, of), at.fits(k))
		}
		if err != nil {
			return err
		}
		attach, err := k.attach(at.snapshot, f.host, x.Net)
		if err != nil {
			return err
		}
		if operation == "route" && at.past && k.me().updown == "" {
			x.Note("no route is made: on this stack packets in transport mode are routed as without IPsec")
			return nil
		}
		x.Plan.Steps = append(attach, x.Plan.Steps...)
		return x.All(ctx)
	case "down":
		return x.down(ctx, operation, at, of)
	}
	if err := at.unroute(k, of); err != nil {
		return err
	}
	if operation == downUnroute {
		return x.down(ctx, operation, at, of)
	}
	gone, total, errs := x.Each(ctx)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, l := range at.unread {
		if l.Table == "ipsec_eroute" && gone < total {
			x.Note("line %d of %s cannot be read; if its packets need this route, they leave in clear where another one takes them", l.Number, l.Table)
		}
	}
	if gone > 0 && gone == total {
		x.Note("it was not routed")
	}
	return nil
}

// adopt makes what the connection has beside its SAs and its eroute, which were made by hand
// or by a command whose record is lost.
func (x *executor) adopt(ctx context.Context, at *situation, f *configuration) error {
	attach, err := x.conn.attach(at.snapshot, f.host, x.Net)
	if err != nil {
		return err
	}
	x.Plan = makePlan(x.conn, "route", at)
	x.Plan.Steps = slices.Concat(attach, x.Plan.Steps, x.conn.setMSS(nil))
	if in := x.conn.sas(x.conn.local); in != nil && at.admits && !x.conn.admitted(at.snapshot, in[0].id) {
		x.Plan.Steps = append(x.Plan.Steps, x.conn.ask(klips.SetPolicy{ID: in[0].id, Policy: x.conn.policy()}))
	}
	if err := x.All(ctx); err != nil {
		return err
	}
	x.Note("its SAs and its eroute are there already; they are part of it from now on")
	return nil
}

// down removes the connection's own objects, and keeps those of others. Its route
// stays, unless the connection is unrouted as well.
func (x *executor) down(ctx context.Context, operation string, at *situation, of func(object) string) error {
	own, others, missing := at.sort()
	if at.held() {
		own = nil
	}
	switch {
	case len(own) == 0 && len(others) > 0:
		o := others[0]
		return fmt.Errorf("it is not up, nothing is changed: there is %s, but %s%s", o.name, o.other, of(o))
	case len(own) == 0:
		x.Note("it was not up")
		if operation == "down" {
			return nil
		}
		x.Plan = makePlan(x.conn, "unroute", at)
	case len(missing)+len(others) > 0:
		var lacks []string
		for _, o := range missing {
			lacks = append(lacks, o.name)
		}
		if len(lacks) > 0 {
			x.Note("it was partly up; what was missing: %s", strings.Join(lacks, ", "))
		}
		for _, o := range others {
			x.Note("%s stays: %s%s", o.name, o.other, of(o))
		}
	}
	_, _, errs := x.Each(ctx)
	return errors.Join(errs...)
}
