package manual

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// Status returns the applet that lists connections.
func Status() *cli.App {
	a := &cli.App{
		Name: "status", Short: "list connections: state, last packets, epoch", Operands: connOperand,
		Synopsis: []string{"[--json] [--config FILE] [NAME ...]"},
		Options:  append([]getopt.Option{configOption, cli.JSONOption("the list")}, cli.CommonOptions()...),
		Notes:    func() string { return verbNotes },
	}
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) { return statusCommand(env, a, args, nil, nil) }
	return a
}

// statusCommand returns the command for a host and its network, which a test can replace;
// nil: this host.
func statusCommand(env *cli.Env, app *cli.App, args []string, h host.Host, n host.Network) (cli.Command, error) {
	c := cli.Common{TakesOperands: true}
	config := ""
	err := c.Parse(app.Options, args, getopt.EnvMode(env.Getenv), func(option, value string) error {
		if option == "config" {
			return setConfig(&config, value)
		}
		return nil
	})
	if err == nil && !c.Help && !c.Version {
		err = checkNames(c.Operands)
	}
	return c.Command(env, func() *cli.App { return app }, err, onHost(h, n, func(ctx context.Context, env *cli.Env, h host.Host, n host.Network) error {
		return status(ctx, env, h, n, config, c.Operands, c.JSON)
	}))
}

func status(ctx context.Context, env *cli.Env, h host.Host, n host.Network, config string, names []string, asJSON bool) error {
	fs, err := readFiles(env, h, config)
	if err != nil {
		return err
	}
	s, err := newSurvey(env, h, n, false, false)
	if err != nil {
		return err
	}
	defer s.close()
	list, err := s.states(ctx, fs, names)
	if err != nil {
		return err
	}
	fs.noteUnread(env)
	if asJSON {
		return output.Print(env, output.StatusList{Head: output.NewHead(s.stack), Connections: list})
	}
	return cli.Print(env, func(w io.Writer) error { return writeStates(w, list) })
}

// states returns the states of connections; names: only these.
func (s *survey) states(ctx context.Context, fs *files, names []string) ([]output.Connection, error) {
	found := map[string]*configuration{}
	for name, f := range fs.connections() {
		if keyed, _ := f.purpose(name); keyed {
			found[name] = f
		}
	}
	for name := range s.records {
		if _, ok := found[name]; !ok {
			found[name] = nil
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(found)), func(c string) bool { return isOf(c, []string{name}) }) {
			f, err := fs.find(name)
			if err == nil {
				err = f.notKeyed(name)
			}
			return nil, err
		}
	}
	list := []output.Connection{}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if len(names) > 0 && !isOf(name, names) {
			continue
		}
		c, err := s.state(ctx, name, found[name])
		if err != nil {
			cli.Notef(s.env, "left out: %v", err)
			continue
		}
		list = append(list, c)
	}
	return list, nil
}

// state returns the state of a connection. f is the file that has it; nil: none has it.
func (s *survey) state(ctx context.Context, name string, f *configuration) (c output.Connection, err error) {
	l := s.ledger(name)
	k, err := s.known(&c, l.former(), name, f)
	if err != nil {
		return c, err
	}
	at, err := s.look(ctx, newExecutor(s.env, k, nil, s.net, false))
	if err != nil {
		return c, err
	}
	c.State = "down"
	_, _, missing := at.sort()
	switch up := at.someUp(); {
	case up && len(missing) == 0:
		c.State = "up"
	case up:
		c.State = "partial"
	case l.former() != nil && k.shunt != "%pass":
		c.State = "closed"
	}
	c.Source, c.Destination = klips.FormatPrefix(k.selector().Src), klips.FormatPrefix(k.selector().Dst)
	c.ReceivedSeconds, c.SentSeconds = at.last(k, k.local), at.last(k, 1-k.local)
	if aside := l.aside(); aside != nil { // the SAs that are being replaced, or replace them
		was := at.of(aside)
		c.ReceivedSeconds = newer(c.ReceivedSeconds, was.last(aside, aside.local))
		c.SentSeconds = newer(c.SentSeconds, was.last(aside, 1-aside.local))
	}
	if k.master.Value != "" || k.epoch > 0 {
		c.Epoch = &k.epoch
	}
	if l != nil && l.was != nil {
		c.Stage = string(l.was.Stage)
	}
	for _, f := range l.closed() {
		c.Closed = append(c.Closed, f.Guard.Selector.String())
	}
	return c, nil
}

// A madeHost knows the names of ends from when the connection was made: a status must not wait
// for name servers.
type madeHost struct {
	host.Host
	file *configuration
	was  *connection
}

func (h madeHost) LookUp(name string, f syntax.Family) (netip.Addr, error) {
	if c, _, err := h.file.conn([]string{h.was.name}); err == nil {
		for i, side := range sides {
			if a := h.was.ends[i].addr; c.Get(side).Value == name && (f == syntax.FamilyAny || syntax.FamilyOf(a) == f) {
				return a, nil
			}
		}
	}
	return h.Host.LookUp(name, f)
}

// known returns the connection as it was made, or else as its file has it, and sets what
// both say. made is nil if there is no record, and f if no file has it.
func (s *survey) known(c *output.Connection, made *connection, name string, f *configuration) (*connection, error) {
	c.Name, c.NotInFile = name, f == nil
	if f == nil {
		c.File = s.records[name].Config
		return made, nil
	}
	c.File = f.file.Name()
	here := *f
	if made != nil {
		here.host = madeHost{f.host, f, made}
	}
	filed, _, err := here.connection([]string{name}, false)
	switch {
	case made == nil:
		return filed, err
	case err != nil:
		c.Differs = []string{err.Error()}
		return made, nil
	}
	filed.catchUp(made)
	made.master = filed.master
	for _, d := range differences(made, filed) {
		c.Differs = append(c.Differs, d.String())
	}
	return made, nil
}

// last returns the seconds since the last packet of the connection's SAs that go to an end;
// nil: there was none.
func (at *situation) last(k *connection, to int) (seconds *int64) {
	for _, s := range k.sas(to) {
		sa, ok := at.sas[s.id]
		if n := int64(sa.Idle / time.Second); ok && sa.Used && (seconds == nil || n < *seconds) {
			seconds = &n
		}
	}
	return seconds
}

// newer returns the smaller of two times ago; nil: never.
func newer(a, b *int64) *int64 {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

// writeStates writes a line for each connection, and one for each thing to see to.
func writeStates(w io.Writer, list []output.Connection) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range list {
		words := []string{c.Source + " -> " + c.Destination}
		if c.State == "up" || c.State == "partial" {
			words = append(words, "received "+ago(c.ReceivedSeconds), "sent "+ago(c.SentSeconds))
		}
		if c.Epoch != nil {
			words = append(words, fmt.Sprintf("epoch %d", *c.Epoch))
		}
		if c.Stage != "" {
			words = append(words, "new keys: stage "+c.Stage)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", c.Name, c.State, strings.Join(words, ", "))
	}
	errs := []error{t.Flush()}
	for _, c := range list {
		if c.NotInFile {
			_, err := fmt.Fprintf(w, "conn %s: no file has it any more\n", c.Name)
			errs = append(errs, err)
		}
		for _, d := range c.Differs {
			_, err := fmt.Fprintf(w, "conn %s: %s\n", c.Name, d)
			errs = append(errs, err)
		}
		for _, f := range c.Closed {
			_, err := fmt.Fprintf(w, "conn %s: %s is closed, too; ipsec unroute %s opens it\n", c.Name, f, c.Name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func ago(seconds *int64) string {
	if seconds == nil {
		return "nothing"
	}
	return fmt.Sprintf("%v ago", time.Duration(*seconds)*time.Second)
}
