package manual

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/klips"
)

// A pending is what a file's connection lacks: the work that makes it as the file has it.
type pending struct {
	name    string
	starts  string    // the operation that its auto= asks for; "": none
	why     []string  // what differs, a line each
	task              // an operation of [request]: up, route or down; unless it is a change
	ready   *executor // with the connection of the file, checked without a stack
	*change           // nil: none
	ledger  *ledger
}

// prepare returns the manually keyed connections of files, checked as far as possible
// without a stack; names: only these.
func (fs *files) prepare(env *cli.Env, n host.Network, show bool, names []string) (list []*pending, err error) {
	var errs []error
	for name, f := range fs.connections() {
		if len(names) > 0 && !isOf(name, names) {
			continue
		}
		keyed, starts := f.purpose(name)
		if !keyed {
			continue
		}
		r := &request{operation: "up", names: []string{name}, config: f.file.Name(), show: show}
		x, err := r.prepare(env, n, f, false)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, &pending{name: name, starts: starts, task: task{r, f}, ready: x})
	}
	return list, errors.Join(errs...)
}

// gapless reports whether the work is a change that can be taken back: the SAs that are
// there stay until the new ones are.
func (p *pending) gapless() bool { return p.change != nil && p.way != breakBefore }

// A survey compares connections of files with what is there.
type survey struct {
	env     *cli.Env
	host    host.Host
	net     host.Network
	show    bool
	follow  *followed.Dir // locked before dir, as everywhere; nil: there is none
	dir     *made.Dir     // nil: there are no records
	records map[string]made.Connection
	stack   string     // its name, after a look; empty: there is none
	at      *situation // what look has read, seen from any connection; nil: nothing yet
}

// newSurvey opens the records, which it makes if makeIt is true. close ends it.
func newSurvey(env *cli.Env, h host.Host, n host.Network, show, makeIt bool) (s *survey, err error) {
	s = &survey{env: env, host: h, net: n, show: show}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.follow, err = h.Follow(makeIt); err != nil {
		return s, err
	}
	if s.dir, err = h.Made(makeIt); err != nil {
		return s, err
	}
	if s.dir == nil { // each operation locks both by itself
		s.close()
		s.follow = nil
		return s, nil
	}
	s.records, err = listRecords(s.dir)
	return s, err
}

func (s *survey) close() {
	s.dir.Close()
	s.follow.Close()
}

func (s *survey) ledger(name string) *ledger {
	if s.dir == nil {
		return nil
	}
	l := &ledger{dir: s.dir}
	if c, ok := s.records[name]; ok {
		l.was = &c
	}
	return l
}

// lacking returns those of the prepared connections that lack something.
func (s *survey) lacking(ctx context.Context, prepared []*pending) (list []*pending, err error) {
	var errs []error
	for _, p := range prepared {
		p.records, p.followDir = s.dir, s.follow
		p, err := s.connection(ctx, p)
		if err != nil {
			errs = append(errs, err)
		} else if p != nil {
			list = append(list, p)
		}
	}
	return list, errors.Join(errs...)
}

// connection returns what a prepared connection lacks; nil: nothing.
func (s *survey) connection(ctx context.Context, p *pending) (*pending, error) {
	x := p.ready
	at, err := s.look(ctx, x)
	if err != nil {
		return nil, err
	}
	p.ledger = s.ledger(p.name)
	was, old := at, p.ledger.former()
	if old != nil {
		at = x.sameEpoch(old, at)
		was = at.of(old)
	}
	switch up := was.someUp(); {
	case up && old == nil && at.isUp():
		return s.missingParts(p, at), nil
	case up && old != nil:
		return s.changed(p, &change{x: x, old: old, at: at, was: was})
	case up || p.starts == "up":
		p.why = []string{"it is not up"}
		return p, nil
	case p.starts == "route" && (old == nil || old.form() != x.conn.form()):
		p.operation, p.why = "route", []string{"it is not routed"}
		return p, nil
	}
	return nil, nil
}

// noStack reports whether an error of Stack means that no stack runs, and so no connection is
// up; without rights that is not known.
func noStack(err error) bool {
	var none *klips.UnavailableError
	return errors.As(err, &none) && (none.Fault == klips.FaultNoDaemon || none.Fault == klips.FaultNoStack) && !errors.Is(err, fs.ErrPermission)
}

// look returns the situation of a connection. The tables and the routes are read once for all
// connections: nothing looks any more when perform begins. Without a stack there is nothing.
func (s *survey) look(ctx context.Context, x *executor) (*situation, error) {
	if s.at == nil {
		at, err := x.look(ctx)
		switch {
		case err == nil:
			s.stack = at.stack
		case noStack(err):
			at = &situation{snapshot: &snapshot{}, has: func(klips.Capability) bool { return true }}
		default:
			return nil, err
		}
		s.at = at
	}
	at := s.at.of(x.conn)
	if s.stack != "" {
		at.mtu, _ = s.net.MTU(x.conn.iface)
	}
	return at, nil
}

// missingParts returns what a connection lacks that is up: routes, or its MTU; nil: nothing.
func (s *survey) missingParts(p *pending, at *situation) *pending {
	k := p.ready.conn
	switch {
	case !at.isRouted(k):
		p.why = []string{"it is up, but not routed"}
	case at.lacksMTU(k):
		p.why = []string{fmt.Sprintf("it is up, but the MTU of %s is %d", k.iface, at.mtu)}
	default:
		return nil
	}
	p.operation = "route"
	return p
}

// changed returns the change of a connection that is up; nil: it is as the file has it.
func (s *survey) changed(p *pending, c *change) (*pending, error) {
	x, was := c.x, p.ledger.was
	k := x.conn
	keys, err := x.keys()
	defer step.ClearKeys(keys)
	if err != nil {
		return nil, x.about(err)
	}
	if was.Stage != "" {
		if k.form() == c.old.form() || k.form() == p.ledger.aside().form() {
			return nil, nil
		}
		return nil, x.about(fmt.Errorf("its SAs are being changed, at stage %s; go on with ipsec rekey first", was.Stage))
	}
	sameKeys := len(was.Keys.Sum) == 0 || was.Keys.Same(keys)
	c.way = wayTo(c.old, k, sameKeys)
	for _, d := range differences(c.old, k) {
		p.why = append(p.why, d.String())
	}
	if !sameKeys {
		p.why = append(p.why, "it is made with other keys")
	}
	_, _, missing := c.was.sort()
	switch {
	case c.way == noChange && len(missing) > 0:
		p.why = append(p.why, "it is partly up: "+missing[0].name+" is missing")
		c.way = breakBefore
	case c.way == noChange:
		return s.missingParts(p, c.at), nil
	}
	p.change = c
	return p, nil
}

// gone returns the work for connections that were made from files that do not have them
// any more, or that do not exist any more.
func (s *survey) gone(ctx context.Context, files *files) (list []*pending, err error) {
	for _, name := range slices.Sorted(maps.Keys(s.records)) {
		c := s.records[name]
		if files.has(name) || !files.had(c.Config) {
			continue
		}
		k := formed(name, c.Form)
		r := &request{operation: "down", names: []string{name}, config: c.Config, show: s.show, records: s.dir, followDir: s.follow, known: k}
		x := newExecutor(s.env, k, nil, s.net, s.show)
		at, err := s.look(ctx, x)
		if err != nil {
			return nil, err
		}
		if !at.someUp() {
			continue
		}
		list = append(list, &pending{
			name: name, why: []string{"it is up, and no file has it any more"},
			task: task{r, unfiled(s.host)}, ledger: s.ledger(name),
		})
	}
	return list, nil
}

// has reports whether a file has a connection. Several files can have it.
func (fs *files) has(name string) bool {
	for conn, f := range fs.all() {
		if conn == baseOf(name) && slices.Contains(f.pairs(conn), name) {
			return true
		}
	}
	return false
}

// had reports whether a file is one of those that were read, or does not exist any more.
func (fs *files) had(path string) bool {
	for _, p := range fs.paths {
		if whole, err := filepath.Abs(p); err == nil && whole == path {
			return true
		}
	}
	_, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist)
}

// perform makes connections as the files have them: all or none, apart from SAs that must
// go first.
func (s *survey) perform(ctx context.Context, list []*pending) error {
	// What goes makes place. SAs with the same SAIDs cannot be made before the old ones go,
	// so these come last, when nothing else can fail.
	rank := func(p *pending) int {
		switch {
		case p.operation == "down":
			return 0
		case p.gapless():
			return 1
		case p.change == nil:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(list, func(a, b *pending) int { return rank(a) - rank(b) })
	for _, p := range list {
		if p.gapless() {
			if err := p.blocked(p.file.of(p.x.conn)); err != nil {
				return p.x.about(err)
			}
		}
	}
	var done []*executor
	for _, p := range list {
		x, err := s.one(ctx, p)
		if err != nil {
			takeBack(ctx, done)
			return err
		}
		if x != nil {
			done = append(done, x)
		}
	}
	var errs []error
	for _, p := range list {
		if p.gapless() {
			errs = append(errs, s.settle(ctx, p))
		}
	}
	return errors.Join(errs...)
}

// one does one work, apart from what cannot be taken back. The executor takes it back.
func (s *survey) one(ctx context.Context, p *pending) (*executor, error) {
	switch {
	case p.change == nil:
		return p.carryOut(ctx, s.env, s.host, s.net, p.file)
	case p.gapless():
		if err := p.x.raiseEpoch(s.host); err != nil {
			return nil, p.x.about(err)
		}
		return p.x, p.x.about(p.make(ctx))
	}
	down := *p.request
	down.operation, down.known = "down", p.old
	if _, err := down.carryOut(ctx, s.env, s.host, s.net, p.file); err != nil {
		return nil, err
	}
	if _, err := p.carryOut(ctx, s.env, s.host, s.net, p.file); err != nil {
		return nil, fmt.Errorf("%w; its old SAs had to go first, so it is down now, and its flow is closed", err)
	}
	return nil, nil
}

// settle removes what only the old form needs, and records the new one.
func (s *survey) settle(ctx context.Context, p *pending) error {
	back := p.ledger.mtuBack(p.x.conn, s.net)
	err := p.ledger.record("up", p.x, p.config, true)
	if err == nil && s.follow != nil {
		err = p.remember(s.follow, p.x.conn)
	}
	if err != nil {
		err = fmt.Errorf("what is made is not recorded: %s", explain.Line(err))
	}
	return p.x.about(errors.Join(err, p.finish(ctx, back...)))
}

// write writes the commands that perform would run.
func (s *survey) write(ctx context.Context, w io.Writer, list []*pending) error {
	for _, p := range list {
		var plans []step.Plan
		switch {
		case p.change == nil:
			x, err := p.prepare(s.env, s.net, p.file, false)
			if err != nil {
				return err
			}
			at, err := s.look(ctx, x)
			if err != nil {
				return err
			}
			plans = append(plans, makePlan(x.conn, p.operation, at))
			if p.operation == "down" {
				plans = append(plans, step.Plan{Steps: p.ledger.mtuBack(nil, s.net)})
			}
		case p.gapless():
			plans = append(plans, step.Plan{Steps: slices.Concat(p.steps(), p.retire(), p.ledger.mtuBack(p.x.conn, s.net))})
		default:
			plans = append(plans, makePlan(p.old, "down", p.was), step.Plan{Steps: p.ledger.mtuBack(p.x.conn, s.net)}, makePlan(p.x.conn, "up", nil))
		}
		for _, pl := range plans {
			for i := range pl.Steps {
				if _, err := fmt.Fprintln(w, pl.Steps[i].Text(s.env.StackName, false)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
