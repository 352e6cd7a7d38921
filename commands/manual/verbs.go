package manual

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
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
		Name: name, Short: short, Synopsis: synopsis,
		Notes: func() string { return verbNotes },
	}
	if len(synopsis) > 1 {
		all := getopt.Option{Name: "all", Help: "all that files have with auto=start, and route those with auto=route"}
		if name == "down" {
			all.Help = "all connections of the files that are up"
		}
		a.Options = append(a.Options, all)
	}
	a.Options = append(append(a.Options,
		getopt.Option{Name: "config", Arg: "FILE", Help: "look in FILE only", Values: []string{"<file>"}},
		getopt.Option{Name: "show", Help: "print the commands on standard error as they are run, without keys"},
	), cli.CommonOptions()...)
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
			if value == "" {
				return cli.Usagef("--config: there is no file name")
			}
			v.config = value
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
	for i, n := range v.Operands {
		if err := conf.CheckName(n); err != nil {
			return v, cli.Usagef("connection: %v", err)
		}
		if slices.Contains(v.Operands[:i], n) {
			return v, cli.Usagef("%s is there twice", n)
		}
	}
	return v, nil
}

// verbCommand returns the command for a host and its network, which a test can replace;
// nil: this host. start starts the stack unless it runs.
func verbCommand(env *cli.Env, app *cli.App, args []string, h host, n network, start Start) (cli.Command, error) {
	v, err := parseVerb(env, app, args)
	return v.Command(env, func() *cli.App { return app }, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
		if h == nil {
			h, n = system{ctx, env}, hostNetwork{}
		}
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
		defer stop()
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
func (v *verb) run(ctx context.Context, env *cli.Env, h host, n network, start Start) error {
	tasks, err := v.tasks(env, h)
	if err != nil {
		return err
	}
	makes := v.operation == "up" || v.operation == "route"
	for _, t := range tasks { // refuse what is wrong before anything is changed
		if _, err := t.prepare(env, n, t.file, false); err != nil {
			return err
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
			for _, x := range slices.Backward(done) {
				x.takeBack(context.WithoutCancel(ctx))
			}
			return err
		}
	}
	return errors.Join(errs...)
}

// tasks finds the connections in the files.
func (v *verb) tasks(env *cli.Env, h host) (tasks []task, err error) {
	paths, err := conf.Search(v.config, env.Getenv)
	if err != nil {
		return nil, err
	}
	var files []*configuration
	var unread []error
	for _, p := range paths {
		f, err := configure(conf.Loader{ReadFile: conf.ReadTrusted}, p, h, identity{})
		if err != nil {
			unread = append(unread, err)
			continue
		}
		f.attaches = true
		files = append(files, f)
	}
	add := func(f *configuration, operation, name string) {
		tasks = append(tasks, task{&request{operation: operation, names: []string{name}, config: f.file.Name(), show: v.show, ifUp: v.all && v.operation != "up"}, f})
	}
	if v.all {
		if len(unread) > 0 {
			return nil, errors.Join(unread...)
		}
		for name, f := range all(files) {
			keyed, starts := f.purpose(name)
			switch {
			case v.operation == "up":
				if starts != "" {
					add(f, starts, name)
				}
			case keyed:
				// What the file has wrong cannot be up by it.
				if _, _, err := f.connection([]string{name}, false); err != nil {
					cli.Notef(env, "left out: %v", err)
					continue
				}
				add(f, v.operation, name)
			}
		}
		if len(tasks) == 0 && v.operation == "up" {
			cli.Notef(env, "no manually keyed connection has auto=start or auto=route in %s", places(paths))
		}
		return tasks, nil
	}
	for _, name := range v.Operands {
		f, err := find(files, name)
		switch {
		case err != nil:
			return nil, err
		case f != nil:
			if keyed, _ := f.purpose(name); !keyed {
				at, _ := f.file.Where(name)
				return nil, fmt.Errorf("%v: conn %s: it has neither spi nor spibase, so it is for a key daemon", at, name)
			}
			add(f, v.operation, name)
		case len(unread) > 0:
			return nil, errors.Join(unread...)
		default:
			return nil, missing(files, paths, name)
		}
	}
	for _, err := range unread {
		cli.Notef(env, "left out: %v", err)
	}
	return tasks, nil
}

// purpose returns what a conn of the file is for. keyed: it is manually keyed, or needs no
// keys; others are for the key daemons of other programs, which have the same files. starts
// is the operation that its auto= asks for; "": none.
func (f *configuration) purpose(name string) (keyed bool, starts string) {
	c, err := f.file.Conn([]string{name}, func(string) bool { return true }, nil)
	if err != nil {
		return true, "" // the operation on it returns the error
	}
	switch c.Get("type").Value {
	case "passthrough", "drop", "reject":
	default:
		if !c.Has("spi") && !c.Has("spibase") {
			return false, ""
		}
	}
	return true, map[string]string{"start": "up", "route": "route"}[c.Get("auto").Value]
}

// find returns the file that has a connection; nil: none has it. Two files can include
// the same third one.
func find(files []*configuration, name string) (found *configuration, err error) {
	for _, f := range files {
		at, ok := f.file.Where(name)
		if !ok {
			continue
		}
		if found == nil {
			found = f
			continue
		}
		if first, _ := found.file.Where(name); first != at {
			return nil, fmt.Errorf("conn %s is at %v and at %v; name the file with --config", name, first, at)
		}
	}
	return found, nil
}

// all returns the connections of files by name, in order, each once.
func all(files []*configuration) func(yield func(string, *configuration) bool) {
	return func(yield func(string, *configuration) bool) {
		seen := map[conf.Pos]bool{}
		for _, f := range files {
			for _, name := range f.file.Names() {
				at, _ := f.file.Where(name)
				if seen[at] {
					continue
				}
				seen[at] = true
				if !yield(name, f) {
					return
				}
			}
		}
	}
}

// missing returns the error that no file has a connection.
func missing(files []*configuration, paths []string, name string) error {
	var names []string
	for name := range all(files) {
		names = append(names, name)
	}
	text := fmt.Sprintf("no conn %s in %s", name, places(paths))
	if near := getopt.Nearest(name, names); near != "" {
		text += "; did you mean " + near + "?"
	}
	return errors.New(text)
}

// places returns the words for the files that were looked in.
func places(paths []string) string {
	if len(paths) == 0 {
		return conf.Usual + ", and there is no " + environ.DefaultConf
	}
	var quoted []string
	for _, p := range paths {
		quoted = append(quoted, quote.File(p))
	}
	return strings.Join(quoted, ", ")
}
