package manual

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/klips"
)

// A way is how a connection that is up gets another form.
type way int

const (
	noChange    way = iota
	inPlace         // its SAs stay
	otherScript     // the same, and another script makes its routes, or none does
	makeBefore      // the new SAs are made before the old ones go
	breakBefore     // the old SAs go first: they have the place of the new ones
)

// wayTo returns how a connection gets a new form. sameKeys: it keeps its keys.
func wayTo(old, now *connection, sameKeys bool) way {
	was, is := old.form(), now.form()
	script := now.me().updown
	switch {
	case was == is && sameKeys:
		return noChange
	case old.me().updown != script && sameKeys && routeless(was) == routeless(is):
		return otherScript
	case old.iface != now.iface, old.me().updown != script, script != "" && old.selector() != now.selector():
		return breakBefore // a script makes the routes, and knows no other way
	case apart(old, now):
		return makeBefore
	case sameKeys && flowless(was) == flowless(is):
		return inPlace
	}
	return breakBefore
}

// saids returns the SAIDs of all SAs of the connection.
func (k *connection) saids() (list []klips.SAID) {
	for to := range k.ends {
		for _, s := range k.sas(to) {
			list = append(list, s.id)
		}
	}
	return list
}

// apart reports whether two connections have no SA in common.
func apart(a, b *connection) bool {
	ids := a.saids()
	return !slices.ContainsFunc(b.saids(), func(id klips.SAID) bool { return slices.Contains(ids, id) })
}

// flowless returns a form without what only its flow and its routes need.
func flowless(f made.Form) made.Form {
	f.Via, f.MTU, f.MSS = false, 0, ""
	for i := range f.Ends {
		e := &f.Ends[i]
		*e = made.End{Addr: e.Addr, Any: e.Any, TunSPI: e.TunSPI, ESPSPI: e.ESPSPI, AHSPI: e.AHSPI, NATPort: e.NATPort}
	}
	return f
}

// routeless returns a form without what only its routes and its scripts need.
func routeless(f made.Form) made.Form {
	f.Via = false
	for i := range f.Ends {
		f.Ends[i].Updown, f.Ends[i].Nexthop = "", netip.Addr{}
	}
	return f
}

// A change gives a connection that is up another form, without a gap for the packets that
// both forms are for.
type change struct {
	x       *executor // with the new form
	old     *connection
	at, was *situation // as seen from both forms
	way     way
}

// blocked returns an error if something has the place of what the new form makes. of
// returns the words for the connection that an object can belong to.
func (c *change) blocked(of func(object) string) error {
	for _, o := range c.at.objects {
		mine := slices.ContainsFunc(c.was.objects, func(old object) bool {
			return old.own() && old.name == o.name && old.id == o.id
		})
		switch {
		case !o.there(), mine, o.eroute != nil && waits(*o.eroute):
		case o.own() && c.way == makeBefore:
			return fmt.Errorf("not changed: there is %s already, of an earlier change; remove it with ipsec spi --del --said %s", o.name, o.id)
		case !o.own():
			return fmt.Errorf("not changed: there is %s already, and %s%s", o.name, o.other, of(o))
		}
	}
	if err := c.at.fits(c.x.conn); err != nil {
		return err
	}
	at := *c.at
	at.with = []klips.Selector{c.old.selector()} // its eroute needs no old route
	return at.routeInWay(c.x.conn)
}

// receive returns the steps after which this host receives by the new SAs, too.
func (c *change) receive() []step.Step { return c.x.conn.makeSAs(c.x.conn.local, c.at) }

// send returns the steps that make the new SAs to the peer and send by them.
func (c *change) send() []step.Step {
	k := c.x.conn
	return slices.Concat(k.makeSAs(1-k.local, c.at), c.flow())
}

// flow returns the steps that give the connection its new flow: guard, eroute and routes.
func (c *change) flow() []step.Step {
	k := c.x.conn
	steps := append(k.close(c.at), k.setEroute(c.at))
	if c.at.lacksMTU(k) {
		steps = append(steps, k.setMTU()...)
	}
	steps = append(steps, k.setMSS(c.old)...)
	if k.me().updown != "" {
		return steps // its flow is the same
	}
	return append(steps, k.makeRoute(c.at)...)
}

// admit returns the steps that let the SAs that stay receive packets of the new flow.
func (c *change) admit() (steps []step.Step) {
	k := c.x.conn
	if sas := k.sas(k.local); len(sas) > 0 && c.at.admits && k.policy() != c.old.policy() {
		s := k.ask(klips.SetPolicy{ID: sas[0].id, Policy: k.policy()})
		s.Undo = []step.Step{k.ask(klips.SetPolicy{ID: sas[0].id, Policy: c.old.policy()})}
		steps = append(steps, s)
	}
	return steps
}

// retire returns the steps that remove what only the old form needs. Its flow stays closed.
func (c *change) retire() (steps []step.Step) {
	k, old := c.x.conn, c.old
	if old.selector() != k.selector() && c.was.flow().own() {
		steps = append(steps, k.askIfThere(klips.DeleteEroute{Selector: old.selector()}))
	}
	if k.mss == "" {
		steps = append(steps, old.removeMSS()...)
	}
	steps = append(steps, k.dropRoutes(old, c.was)...)
	if c.way == makeBefore {
		steps = append(steps, old.removeSAs(c.was)...)
	}
	return steps
}

// make carries out the part of a change that can be taken back.
func (c *change) make(ctx context.Context) error {
	c.x.Plan.Steps = c.steps()
	return c.x.All(ctx)
}

// steps returns the steps of make.
func (c *change) steps() []step.Step {
	switch c.way {
	case inPlace:
		return slices.Concat(c.admit(), c.flow())
	case otherScript:
		return c.rescript()
	}
	return slices.Concat(c.receive(), c.send())
}

// rescript returns the steps that end the work of the old script and begin that of the new one.
// As after the operation down, the old routes stay until the new ones are made. The first step
// to be done is the last to be undone: it brings back the old routes.
func (c *change) rescript() []step.Step {
	k, old := c.x.conn, c.old
	steps := slices.Concat(old.updown("down", ""), c.routes(k), k.updown("up", "down"))
	if len(steps) > 0 {
		steps[0].Undo = slices.Concat(c.routes(old), old.updown("up", ""))
	}
	return steps
}

// routes returns the steps that make the routes of one form, whatever those of the other are.
func (c *change) routes(k *connection) []step.Step {
	if k.me().updown == "" && c.at.past {
		return nil
	}
	steps := k.makeRoute(nil)
	for i := range steps {
		steps[i].Replace = steps[i].Route != nil
	}
	return steps
}

// finish carries out the rest, and other steps.
func (c *change) finish(ctx context.Context, also ...step.Step) error {
	c.x.Plan.Steps = append(c.retire(), also...)
	_, _, errs := c.x.Each(ctx)
	return errors.Join(errs...)
}
