package manual

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
)

// A Start starts the stack that env selects, unless it runs.
type Start func(ctx context.Context, env *cli.Env) error

// Up, Down, Route and Unroute return the applets that carry out one operation each. They
// need no preparation: they find the file of a connection, and up and route start the
// stack and attach the virtual device. Each name is a connection of its own.
func Up(start Start) *cli.App {
	return verbApp("up", "bring connections of configuration files up", start)
}

func Down(start Start) *cli.App {
	return verbApp("down", "take connections down; their flows stay closed", start)
}

func Route(start Start) *cli.App {
	return verbApp("route", "close the flows of connections without bringing them up", start)
}

func Unroute(start Start) *cli.App {
	return verbApp("unroute", "take connections down and open their flows", start)
}

func verbApp(name, short string, start Start) *cli.App {
	synopsis := []string{"[--show] [--config FILE] NAME ..."}
	if name == "up" || name == "down" {
		synopsis = append(synopsis, "[--show] [--config FILE] --all")
	}
	a := &cli.App{
		Name: name, Short: short, Synopsis: synopsis, Operands: connOperand,
		Notes: func() string { return verbNotes },
	}
	if len(synopsis) > 1 {
		all := getopt.Option{Name: "all", Help: "all that files have with auto=start, or that were up before the stack failed; route those with auto=route"}
		if name == "down" {
			all.Help = "all connections of the files that are up"
		}
		a.Options = append(a.Options, all)
	}
	a.Options = append(append(a.Options, configOption, showOption), cli.CommonOptions()...)
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		return verbCommand(env, a, args, nil, nil, start)
	}
	return a
}

const verbNotes = "NAME is a conn section in the file of $IPSEC_CONF or the folder of\n" +
	"$IPSEC_CONFS; without these, in /etc/ipsec.d/*.conf or /etc/ipsec.conf.\n"

// A verb is the parsed command line of one of these applets.
type verb struct {
	cli.Common
	operation string // of the applet manual
	config    string
	all, show bool
}

func parseVerb(env *cli.Env, app *cli.App, args []string) (*verb, error) {
	v := &verb{operation: app.Name}
	if app.Name == "unroute" {
		v.operation = downUnroute
	}
	v.TakesOperands = true
	err := v.Parse(app.Options, args, getopt.EnvMode(env.Getenv), func(option, value string) error {
		switch option {
		case "all":
			v.all = true
		case "config":
			return setConfig(&v.config, value)
		case "show":
			v.show = true
		}
		return nil
	})
	if err != nil || v.Help || v.Version {
		return v, err
	}
	switch {
	case v.all && len(v.Operands) > 0:
		return v, cli.Usagef("--all and the name %s; one of both", quote.Value(v.Operands[0]))
	case !v.all && len(v.Operands) == 0 && len(app.Synopsis) > 1:
		return v, cli.Usagef("which connection is missing: give a name, or --all")
	case !v.all && len(v.Operands) == 0:
		return v, cli.Usagef("which connection is missing: give a name")
	}
	return v, checkNames(v.Operands)
}

// checkNames returns an error if one of the names is not valid, or is there twice.
func checkNames(names []string) error {
	for i, n := range names {
		if err := checkName(n); err != nil {
			return cli.Usagef("connection: %v", err)
		}
		if slices.Contains(names[:i], n) {
			return cli.Usagef("%s is there twice", n)
		}
	}
	return nil
}

// verbCommand returns the command for a host and its network, which a test can replace;
// nil: this host. start starts the stack unless it runs.
func verbCommand(env *cli.Env, app *cli.App, args []string, h host.Host, n host.Network, start Start) (cli.Command, error) {
	v, err := parseVerb(env, app, args)
	return v.Command(env, func() *cli.App { return app }, err, onHost(h, n, func(ctx context.Context, env *cli.Env, h host.Host, n host.Network) error {
		return v.run(ctx, env, h, n, start)
	}))
}

// A task is an operation on one connection.
type task struct {
	*request
	file *configuration
}

// run carries out the operation on all connections. If up or route fails for one, the
// others are as they were before.
func (v *verb) run(ctx context.Context, env *cli.Env, h host.Host, n host.Network, start Start) error {
	tasks, err := v.tasks(env, h)
	if v.all && v.operation == "up" {
		return errors.Join(err, v.runEach(ctx, env, h, n, tasks, start))
	}
	if err != nil {
		return err
	}
	makes := v.operation == "up" || v.operation == "route"
	var flows []klips.Selector
	for _, t := range tasks { // refuse what is wrong before anything is changed
		x, err := t.prepare(env, n, t.file, false)
		if err != nil {
			return err
		}
		flows = append(flows, x.conn.selector())
	}
	if v.operation == downUnroute {
		for _, t := range tasks {
			t.with = flows // they can share routes
		}
	}
	if makes {
		if err := start(ctx, env); err != nil {
			return err
		}
	}
	var errs []error
	var done []*executor
	for _, t := range tasks {
		x, err := t.carryOut(ctx, env, h, n, t.file)
		switch {
		case err == nil:
			done = append(done, x)
		case !makes:
			errs = append(errs, err)
		default:
			takeBack(ctx, done)
			return err
		}
	}
	if makes {
		errs = append(errs, control(h, filesOf(tasks)...))
	}
	return errors.Join(errs...)
}

func filesOf(tasks []task) (files []*configuration) {
	for _, t := range tasks {
		files = append(files, t.file)
	}
	return files
}

// runEach carries out each operation by itself: at boot, a connection that is wrong must not
// keep the others from coming up.
func (v *verb) runEach(ctx context.Context, env *cli.Env, h host.Host, n host.Network, tasks []task, start Start) error {
	var errs []error
	var right []task
	for _, t := range tasks {
		if _, err := t.prepare(env, n, t.file, false); err != nil {
			errs = append(errs, err)
			continue
		}
		right = append(right, t)
	}
	if len(right) > 0 {
		if err := start(ctx, env); err != nil {
			return err
		}
	}
	var done []task
	for _, t := range right {
		if _, err := t.carryOut(ctx, env, h, n, t.file); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, t)
	}
	return errors.Join(append(errs, control(h, filesOf(done)...))...)
}

// tasks finds the connections: in the files, and for down and unroute also in the records
// of what was made.
func (v *verb) tasks(env *cli.Env, h host.Host) ([]task, error) {
	fs, err := readFiles(env, h, v.config)
	if err != nil {
		return nil, err
	}
	var records map[string]made.Connection
	if v.all || v.operation != "up" && v.operation != "route" {
		if records, err = readRecords(h); err != nil {
			return nil, err
		}
	}
	switch {
	case v.all && v.operation == "up":
		return v.startTasks(env, h, fs, records)
	case v.all:
		return v.allTasks(env, h, fs, records)
	}
	var tasks []task
	for _, name := range v.Operands {
		list, err := v.named(h, fs, records, name)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, list...)
	}
	fs.noteUnread(env)
	return tasks, nil
}

// named returns the operations on a named conn, or on a connection of it.
func (v *verb) named(h host.Host, fs *files, records map[string]made.Connection, name string) (tasks []task, err error) {
	f, err := fs.find(name)
	for _, made := range slices.Sorted(maps.Keys(records)) {
		if isOf(made, []string{name}) {
			tasks = append(tasks, v.known(records[made], cmp.Or(f, unfiled(h))))
		}
	}
	if len(tasks) > 0 {
		return tasks, nil
	}
	if err != nil {
		return nil, err
	}
	if keyed, _ := f.purpose(name); !keyed {
		return nil, f.notKeyed(name)
	}
	for _, name := range f.pairs(name) {
		tasks = append(tasks, v.filed(f, v.operation, name))
	}
	return tasks, nil
}

// filed returns an operation on a connection of a file, and known one on a connection as it
// was made.
func (v *verb) filed(f *configuration, operation, name string) task {
	return task{&request{
		operation: operation, names: []string{name}, config: f.file.Name(), show: v.show,
		ifUp: v.all && v.operation != "up",
	}, f}
}

func (v *verb) known(c made.Connection, f *configuration) task {
	return task{&request{
		operation: v.operation, names: []string{c.Conn}, config: c.Config, show: v.show,
		ifUp: v.all, known: formed(c.Conn, c.Form),
	}, f}
}

// startTasks returns the operations of --all for up: on the connections that the files start
// or route, and on those that were up before. The error is about files that are left out.
func (v *verb) startTasks(env *cli.Env, h host.Host, fs *files, records map[string]made.Connection) (tasks []task, err error) {
	errs := fs.unread
	for name, f := range fs.connections() {
		keyed, starts := f.purpose(name)
		if c, ok := records[name]; ok && keyed && c.Up() && f.is(c.Config) {
			starts = "up"
			delete(records, name)
		}
		if starts != "" {
			tasks = append(tasks, v.filed(f, starts, name))
		}
	}
	// Files that were named with --config.
	for _, name := range slices.Sorted(maps.Keys(records)) {
		c := records[name]
		if !c.Up() || v.config != "" || fs.had(c.Config) {
			continue
		}
		other := readPaths(h, []string{c.Config})
		if f, err := other.find(name); err != nil {
			errs = append(errs, fmt.Errorf("conn %s: it was up: %w", name, err))
		} else {
			tasks = append(tasks, v.filed(f, "up", name))
		}
	}
	if len(tasks) == 0 {
		cli.Notef(env, "no manually keyed connection has auto=start or auto=route in %s", fs.places())
	}
	return tasks, errors.Join(errs...)
}

// allTasks returns the operations of --all for down: on all connections that are up.
func (v *verb) allTasks(env *cli.Env, h host.Host, fs *files, records map[string]made.Connection) (tasks []task, err error) {
	if err := fs.unreadable(); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(records)) {
		f, _ := fs.find(name)
		tasks = append(tasks, v.known(records[name], cmp.Or(f, unfiled(h))))
	}
	for name, f := range fs.connections() {
		keyed, _ := f.purpose(name)
		if _, made := records[name]; made || !keyed {
			continue
		}
		// What the file has wrong cannot be up by it.
		if _, _, err := f.connection([]string{name}, false); err != nil {
			cli.Notef(env, "left out: %v", err)
			continue
		}
		tasks = append(tasks, v.filed(f, v.operation, name))
	}
	return tasks, nil
}
