package manual

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/internal/stored"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/klips"
)

// A ledger is the store of what was made of connections, locked, and the record of one of
// them. A nil ledger has no records.
type ledger struct {
	dir *made.Dir
	was *made.Connection // nil: there is none
}

// recall opens the store, which it makes if makeIt is true, and reads the record of a
// connection. The caller closes it.
func recall(h host.Host, name string, makeIt bool) (*ledger, error) {
	dir, err := h.Made(makeIt)
	if dir == nil || err != nil {
		return nil, err
	}
	l, err := readLedger(dir, name)
	if err != nil {
		dir.Close()
	}
	return l, err
}

// readLedger reads the record of a connection from the store.
func readLedger(dir *made.Dir, name string) (*ledger, error) {
	c, err := dir.Get(name)
	switch {
	case err == nil:
		return &ledger{dir, &c}, nil
	case errors.Is(err, fs.ErrNotExist):
		return &ledger{dir: dir}, nil
	}
	return nil, err
}

// restoring returns a function that gives a store the value back that it has now. held is
// the store if the caller keeps it locked until then; nil: open opens it again.
func restoring[T stored.Value](held, now *stored.Dir[T], open func(makeIt bool) (*stored.Dir[T], error), name string) func(context.Context) error {
	was, err := now.Get(name)
	return func(context.Context) error {
		dir := held
		if dir == nil {
			var err error
			if dir, err = open(true); err != nil {
				return err
			}
			defer dir.Close()
		}
		if err != nil { // there was none, or a damaged one
			return dir.Remove(name)
		}
		return dir.Put(was)
	}
}

func (l *ledger) close() {
	if l != nil {
		l.dir.Close()
	}
}

// former returns the connection as it was made; nil: there is no record.
func (l *ledger) former() *connection {
	if l == nil || l.was == nil {
		return nil
	}
	return formed(l.was.Conn, l.was.Form)
}

// aside returns the form whose SAs exist besides, while they are changed; nil: there is
// none.
func (l *ledger) aside() *connection {
	if l == nil || l.was == nil || l.was.Aside == nil {
		return nil
	}
	return formed(l.was.Conn, *l.was.Aside)
}

// closed returns the flows of earlier forms that are still closed.
func (l *ledger) closed() []made.Flow {
	if l == nil || l.was == nil {
		return nil
	}
	return l.was.Closed
}

// record stores the result of an operation on the connection of an executor, which is from
// a file. up reports whether it was up before.
func (l *ledger) record(operation string, x *executor, file string, up bool) error {
	if l == nil {
		return nil
	}
	k := x.conn
	switch {
	case operation == "down" && l.was == nil, operation == "unroute" && up:
		return nil
	case operation == "down":
		l.was.Stage, l.was.Aside, l.was.Keys, l.was.MTUBefore = "", nil, made.KeyCheck{}, 0
		return l.dir.Put(*l.was)
	case operation == "unroute", operation == downUnroute:
		return l.dir.Remove(k.name)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	c := made.Connection{Conn: k.name, Config: file, Form: k.form(), Closed: l.stillClosed(k)}
	if operation == "up" || up {
		if c.MTUBefore, err = l.mtuBefore(x); err != nil {
			return err
		}
	}
	switch {
	case up && l.was != nil && l.was.Form == c.Form: // its SAs stay as they are
		c.Keys, c.Stage, c.Aside = l.was.Keys, l.was.Stage, l.was.Aside
	case operation == "up":
		keys, err := x.keys()
		defer step.ClearKeys(keys)
		if err != nil {
			return err
		}
		c.Keys = made.CheckKeys(keys)
	}
	return l.put(c)
}

func (l *ledger) put(c made.Connection) error {
	if l == nil {
		return nil
	}
	l.was = &c
	return l.dir.Put(c)
}

// stillClosed returns the flows that stay closed besides that of the connection's new
// form: what was protected leaves in clear only after it is unrouted.
func (l *ledger) stillClosed(k *connection) []made.Flow {
	list := slices.Clone(l.closed())
	if old := l.former(); old != nil && old.shunt != "%pass" {
		list = append(list, old.closedFlow())
	}
	var still []made.Flow
	for _, f := range list {
		same := func(g made.Flow) bool { return g.Guard.Selector == f.Guard.Selector }
		if f.Guard.Selector != k.selector() && !slices.ContainsFunc(still, same) {
			still = append(still, f)
		}
	}
	return still
}

// openFormer returns the steps that open the flows of earlier forms.
func (l *ledger) openFormer(k *connection) (steps []step.Step) {
	for _, f := range l.closed() {
		for _, dst := range f.Backstops {
			if !slices.Contains(k.backstops(), dst) {
				steps = append(steps, step.Step{Backstop: &dst, Remove: true, IfExists: true})
			}
		}
		steps = append(steps, step.Step{Guard: &f.Guard, Remove: true, IfExists: true})
	}
	return steps
}

// dropAside returns the steps that remove the SAs of the other form, while SAs are
// changed.
func (l *ledger) dropAside(at *situation) (steps []step.Step) {
	k := l.aside()
	if k == nil {
		return nil
	}
	return k.removeSAs(at.of(k))
}

// removeSAs returns the steps that remove the connection's own SAs.
func (k *connection) removeSAs(at *situation) (steps []step.Step) {
	for _, to := range []int{1 - k.local, k.local} {
		for _, id := range k.heads(to, at) {
			steps = append(steps, k.askIfThere(klips.DeleteSA{ID: id}))
		}
	}
	return steps
}

// dropRoutes returns the steps that remove the routes of an earlier form, which the
// connection does not have. Their packets stay closed in. was is the situation as seen from
// the earlier form.
func (k *connection) dropRoutes(old *connection, was *situation) (steps []step.Step) {
	if old.me().updown != "" || k.me().updown != "" {
		return nil // scripts make the routes
	}
	for _, r := range old.routes() {
		same := func(other routes.Route) bool { return sameRoute(r, other) }
		if !slices.ContainsFunc(k.routes(), same) && was.routed(r) && was.needs(old, r) == nil {
			steps = append(steps, step.Step{Route: &r, Remove: true, IfExists: true})
		}
	}
	return steps
}
