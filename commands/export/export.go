// Package export is the applet that writes SAs and eroutes for other programs.
package export

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/formats"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/commands/internal/sakeys"
	"github.com/klips-go/ipsec/commands/manual"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// formatJSON is the format that is no other program's.
const formatJSON = "json"

// App returns the applet.
func App() *cli.App {
	a := &cli.App{
		Name:     "export",
		Short:    "write SAs and eroutes as configuration of another program",
		Synopsis: []string{"FORMAT [--peer] [--show-keys] [--out FILE [--force]] [NAME | SAID ...]"},
		Options: append([]getopt.Option{
			{Name: "peer", Help: "write the other end's half"},
			{Name: "show-keys", Help: "write the keys, too"},
			{Name: "out", Arg: "FILE", Help: "write the new file FILE that only its owner can read", Values: []string{"<file>"}},
			{Name: "force", Help: "overwrite FILE"},
		}, cli.CommonOptions()...),
		Operands: append(languages().Names(), "<conn>", "<said>"),
		Notes: func() string {
			return languages().Usage() + "Without a name, everything is written. NAME is a connection that is up.\n"
		},
	}
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		r, err := parse(env, a, args)
		return r.Command(env, func() *cli.App { return a }, err, cli.Reader(r.run))
	}
	return a
}

// languages returns all formats.
func languages() (l formats.List) {
	for _, f := range render.Formats() {
		l = append(l, formats.Format{Name: f.Name, Help: f.Help})
	}
	return append(l, formats.Format{Name: formatJSON, Help: "an object for programs, see ipsec_json(5)"})
}

// A request is a parsed command line.
type request struct {
	cli.Common
	peer, showKeys bool
	out            formats.Out
	format         string
	names          []string     // connections
	saids          []klips.SAID // and SAs; neither: everything
}

func parse(env *cli.Env, app *cli.App, args []string) (*request, error) {
	r := &request{}
	r.TakesOperands = true
	err := r.Parse(app.Options, args, getopt.EnvMode(env.Getenv), r.option)
	if err != nil || r.Help || r.Version {
		return r, err
	}
	if r.format, err = languages().Choose(r.Operands); err == nil {
		err = r.out.Check()
	}
	if err != nil {
		return r, err
	}
	for _, word := range r.Operands[1:] {
		if !strings.ContainsAny(word, "@%") {
			if err := conf.CheckName(word); err != nil {
				return r, cli.Usagef("connection: %v", err)
			}
			r.names = append(r.names, word)
			continue
		}
		id, err := syntax.ParseSAID(word, env.Resolver)
		if err != nil {
			return r, cli.Usagef("SAID %s: %w", quote.Value(word), err)
		}
		r.saids = append(r.saids, id)
	}
	return r, nil
}

func (r *request) option(name, value string) error {
	switch name {
	case "peer":
		r.peer = true
	case "show-keys":
		r.showKeys = true
	}
	return r.out.Option(name, value)
}

func (r *request) run(ctx context.Context, env *cli.Env, s klips.Stack) error {
	r.DebugStack(env, s)
	t, err := s.Snapshot(ctx, klips.Want{SAs: true, Eroutes: true, Devices: true, Unread: klips.TextTables[:]})
	if err != nil {
		return explain.Listing("the tables", err)
	}
	if len(t.Unread) > 0 {
		l := t.Unread[0]
		return fmt.Errorf("line %d of %s cannot be read (%s), so that the export would lack a part; ipsec look shows it", l.Number, l.Table, l.Reason)
	}
	c, err := r.choose(env, render.NewConfig(t))
	if err != nil {
		return err
	}
	defer c.Clear()
	missing := 0
	if r.showKeys {
		if missing, err = sakeys.Read(ctx, env, s, c); err != nil {
			return err
		}
	}
	half := c
	if r.peer {
		half = c.Peer()
	}
	text, err := r.render(half, s.Info().Name)
	defer text.Clear()
	if err != nil {
		return err
	}
	if err := r.out.Write(env, text.Body); err != nil {
		return err
	}
	for _, n := range text.Notes {
		cli.Notef(env, "%s", n)
	}
	if r.showKeys && r.out.File == "" && cli.IsTerminal(env.Out) {
		cli.Notef(env, "the keys are on the terminal now; with --out FILE only the owner of the file can read them")
	}
	if missing > 0 || slices.ContainsFunc(text.Notes, func(n render.Note) bool { return n.Left }) {
		return &cli.ExitError{Code: cli.ExitFailed} // the notes have named what is missing
	}
	return nil
}

// choose returns the part of a Config that the command line names.
func (r *request) choose(env *cli.Env, c *render.Config) (*render.Config, error) {
	if len(r.names)+len(r.saids) == 0 {
		return c, nil
	}
	for _, id := range r.saids {
		if c.Group(id) == nil {
			return nil, fmt.Errorf("there is no SA %s; ipsec spi lists them", id)
		}
	}
	ids := slices.Clone(r.saids)
	var flows []klips.Selector
	if len(r.names) > 0 {
		rundir, err := environ.Rundir(env.Getenv)
		if err != nil {
			return nil, err
		}
		for _, name := range r.names {
			makings := manual.Makings(rundir, name)
			if len(makings) == 0 {
				return nil, fmt.Errorf("connection %s is not up, so that it has neither SAs nor an eroute; bring it up with ipsec up %s, or name SAIDs", name, name)
			}
			there := false
			for _, m := range makings {
				ids, flows = append(ids, m.SAs...), append(flows, m.Flow)
				there = there || len(m.SAs) == 0 || slices.ContainsFunc(m.SAs, func(id klips.SAID) bool { return c.Group(id) != nil })
			}
			if !there {
				return nil, fmt.Errorf("connection %s has no SAs any more, because the stack has started anew or somebody has removed them; bring it up with ipsec up %s", name, name)
			}
		}
	}
	return c.Select(ids, flows), nil
}

// render returns the text.
func (r *request) render(c *render.Config, stack string) (render.Text, error) {
	if r.format != formatJSON {
		return render.Render(r.format, c)
	}
	var b bytes.Buffer
	err := output.Write(&b, output.NewExportList(stack, r.peer, c))
	return render.Text{Body: b.Bytes(), Notes: c.Notes}, err
}
