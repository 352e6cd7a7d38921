// Package spigrp is the applet that groups security associations, takes groups
// apart and lists them.
package spigrp

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/advice"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:  "spigrp",
		Short: "group and ungroup security associations, list groups",
		Synopsis: []string{
			"[--debug] [--label LABEL]",
			"[--debug] [--label LABEL] FAMILY DST SPI PROTO [FAMILY DST SPI PROTO ...]",
			"[--debug] [--label LABEL] --said SAID [SAID ...]",
		},
		Options: options(),
		Notes:   notes,
		Run:     run,
	}
}

func notes() string {
	return "One to four SAs, from the innermost transform (tun) to the outermost (ah);\n" +
		"one SA alone is taken out of its group, and so are the others of it.\n" +
		"FAMILY is inet or inet6, PROTO is ah, esp, tun or comp.\n"
}

func run(ctx context.Context, env *cli.Env, args []string) error {
	req, err := parse(env, args)
	var app *cli.App
	if req.Help { // nothing else needs it, and it takes time to make
		app = App()
	}
	stack, err := req.Open(ctx, env, app, err)
	if stack == nil {
		return err
	}
	defer stack.Close()
	switch len(req.ids) {
	case 0:
		if err := listing.Print(ctx, env, stack, listing.Table[[]klips.SA]{
			Name: "ipsec_spigrp", About: "groups", Read: klips.Stack.SAs, Write: procfs.WriteSPIGrp}); err != nil {
			return err
		}
		listing.NoteLinks(ctx, env, stack)
		return nil
	case 1:
		req.Debugf(env, "ungroup %s", req.ids[0])
		if err := stack.Ungroup(ctx, req.ids[0]); err != nil {
			return explain.Error(explain.Ungroup, req.ids[0].String(), err)
		}
		env.Check(ctx, stack, advice.Ungroup(req.ids[0]))
		return nil
	}
	req.Debugf(env, "group %s", join(req.ids))
	if err := stack.Group(ctx, req.ids); err != nil {
		err = namedTwice(req.ids, err)
		return explain.Error(explain.Group, culprit(ctx, stack, req.ids, err), err)
	}
	env.Check(ctx, stack, advice.Group(req.ids))
	return nil
}

// namedTwice gives an error of Group the reason, where it is that an SA was named
// twice.
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

// culprit names the SAs that an error of Group is about: the missing ones if
// some are missing, else all. It only counts where the error does not say so.
func culprit(ctx context.Context, stack klips.Stack, ids []klips.SAID, err error) string {
	var oe *klips.OpError
	if errors.As(err, &oe) && oe.Object != "" || !errors.Is(err, syscall.ENOENT) {
		return join(ids)
	}
	var missing []klips.SAID
	for _, id := range ids {
		if _, err := stack.GetSA(ctx, id); errors.Is(err, syscall.ESRCH) {
			missing = append(missing, id)
		}
	}
	if missing == nil {
		return join(ids)
	}
	return join(missing)
}

func join(ids []klips.SAID) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(id.String())
	}
	return b.String()
}
