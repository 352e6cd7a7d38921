// Package spigrp is the applet that groups security associations, takes groups
// apart and lists them.
package spigrp

import (
	"context"
	"errors"
	"io"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/advice"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:  "spigrp",
		Short: "group and ungroup security associations, list groups",
		Synopsis: []string{
			"[--debug] [--label LABEL] [--json]",
			"[--debug] [--label LABEL] FAMILY DST SPI PROTO [FAMILY DST SPI PROTO ...]",
			"[--debug] [--label LABEL] --said SAID [SAID ...]",
		},
		Options: options(),
		Notes:   notes,
		Parse:   command,
	}
}

func notes() string {
	return "One to four SAs, from the innermost transform (tun) to the outermost (ah);\n" +
		"one SA alone is taken out of its group, and so are the others of it.\n" +
		"FAMILY is inet or inet6, PROTO is ah, esp, tun or comp.\n"
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	req, err := parse(env, args)
	if len(req.ids) == 0 {
		return req.Command(env, App, err, cli.Reader(req.list))
	}
	return req.Command(env, App, err, req)
}

// table is the table that is printed if no action is given.
var table = listing.Table{
	Name: "ipsec_spigrp", About: "groups", Want: klips.Want{SAs: true},
	Write: func(w io.Writer, t *klips.Snapshot) error { return procfs.WriteSPIGrp(w, t.SAs) },
	JSON:  output.NewSPIGRPList,
}

func (req *request) list(ctx context.Context, env *cli.Env, s klips.Stack) error {
	if err := table.Reader(&req.Common)(ctx, env, s); err != nil {
		return err
	}
	listing.NoteLinks(ctx, env, s)
	return nil
}

// Run groups SAs, or takes a group apart.
func (req *request) Run(ctx context.Context, env *cli.Env) error { return cli.Change(ctx, env, req) }

// Changes returns one change.
func (req *request) Changes(_ context.Context, env *cli.Env, s klips.Stack) ([]klips.Change, error) {
	req.DebugStack(env, s)
	if len(req.ids) == 1 {
		req.Debugf(env, "ungroup %s", req.ids[0])
		return []klips.Change{klips.Ungroup{ID: req.ids[0]}}, nil
	}
	req.Debugf(env, "group %s", klips.JoinSAIDs(req.ids))
	return []klips.Change{klips.Group{IDs: req.ids}}, nil
}

// Refused adds words to an error of the change.
func (req *request) Refused(ctx context.Context, s klips.Stack, c klips.Change, err error) error {
	if len(req.ids) == 1 {
		return explain.Error(c, c.Object(), err)
	}
	err = namedTwice(req.ids, err)
	return explain.Error(c, culprit(ctx, s, req.ids, err), err)
}

// Done prints a note for each reason why the group will carry no packets.
func (req *request) Done(ctx context.Context, env *cli.Env, s klips.Stack, _ []klips.Outcome) error {
	if len(req.ids) == 1 {
		env.Check(ctx, s, advice.Ungroup(req.ids[0]))
	} else {
		env.Check(ctx, s, advice.Group(req.ids))
	}
	return nil
}

// namedTwice adds the reason to an error of Group, if an SA was named twice.
func namedTwice(ids []klips.SAID, err error) error {
	var oe *klips.OpError
	if !errors.Is(err, syscall.EEXIST) || !errors.As(err, &oe) || oe.Reason != "" {
		return err
	}
	for i, id := range ids {
		if slices.Contains(ids[:i], id) && oe.Object == id.String() {
			named := *oe
			named.Reason = "it is named twice"
			return &named
		}
	}
	return err
}

// culprit names the SAs that an error of Group is about: the missing ones if some are
// missing, else all. It is used only if the error names none.
func culprit(ctx context.Context, stack klips.Stack, ids []klips.SAID, err error) string {
	var oe *klips.OpError
	if errors.As(err, &oe) && oe.Object != "" || !errors.Is(err, syscall.ENOENT) {
		return klips.JoinSAIDs(ids)
	}
	var missing []klips.SAID
	for _, id := range ids {
		if _, err := klips.ReadSA(ctx, stack, id); errors.Is(err, syscall.ESRCH) {
			missing = append(missing, id)
		}
	}
	if missing == nil {
		return klips.JoinSAIDs(ids)
	}
	return klips.JoinSAIDs(missing)
}
