// Package eroute is the applet that adds, removes and lists eroutes. An eroute sends
// packets into security associations.
package eroute

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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
		Name:  "eroute",
		Short: "send packets into security associations, list where they go",
		Synopsis: []string{
			"[--json]",
			"--add FLOW SA [--also SAID]...",
			"--replace FLOW SA [--also SAID]...",
			"--addin FLOW SA",
			"--del FLOW",
			"--clear",
		},
		Options: options(),
		Notes:   notes,
		Parse:   command,
	}
}

func notes() string {
	return "FLOW is --src SUBNET --dst SUBNET, perhaps with --eraf FAMILY before them and\n" +
		"with --transport-proto PROTO [--src-port PORT] [--dst-port PORT].\n" +
		"SA is --said SAID, or --af FAMILY --edst ADDR --spi SPI --proto PROTO; it is the\n" +
		"first of its group. Packets without an eroute are dropped. --also names further SAs\n" +
		"to the same host, at most 15. All packets of a flow go to the same one of them.\n"
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	req, err := parse(env, args)
	if req.by == "" {
		return req.Command(env, App, err, list.Reader(&req.Common))
	}
	return req.Command(env, App, err, req)
}

// list is the table that is printed if no action is given.
var list = listing.Table{
	Name: "ipsec_eroute", About: "eroutes", Want: klips.Want{Eroutes: true},
	Write: func(w io.Writer, t *klips.Snapshot) error { return procfs.WriteEroute(w, t.Eroutes) },
	JSON:  output.NewErouteList, JSONParts: output.WriteErouteParts,
}

// Run sets or removes an eroute, removes all eroutes, or sets an inbound policy.
func (req *request) Run(ctx context.Context, env *cli.Env) error { return cli.Change(ctx, env, req) }

// policy reports whether the command sets an inbound policy.
func (req *request) policy() bool { return req.by == "addin" || req.by == "replacein" }

// Changes returns one change.
func (req *request) Changes(_ context.Context, env *cli.Env, s klips.Stack) ([]klips.Change, error) {
	req.DebugStack(env, s)
	for _, note := range req.notes {
		cli.Notef(env, "%s", note)
	}
	flow := flowText(req.eroute.Selector)
	switch req.by {
	case "clear":
		req.Debugf(env, "remove all eroutes")
		return []klips.Change{klips.ClearEroutes{}}, nil
	case "del":
		req.Debugf(env, "remove %s", flow)
		return []klips.Change{klips.DeleteEroute{Selector: req.eroute.Selector}}, nil
	}
	req.Debugf(env, "%s %s => %s", req.by, flow, req.eroute.ID)
	if !req.policy() {
		return []klips.Change{klips.SetEroute{Eroute: req.eroute, Replace: req.by == "replace"}}, nil
	}
	if (req.eroute.Proto != 0 || req.eroute.OfBoth()) && !s.Info().Has(klips.CapTransportPolicy) {
		cli.Notef(env, "on this stack an inbound policy is for all protocols and ports; --transport-proto, --src-port and --dst-port have no effect on it")
	}
	return []klips.Change{klips.SetPolicy{ID: req.eroute.ID, Policy: req.eroute.Selector, Replace: req.by == "replacein"}}, nil
}

// Refused adds words to an error of the change.
func (req *request) Refused(ctx context.Context, s klips.Stack, c klips.Change, err error) error {
	if req.policy() {
		return explain.Error(c, c.Object(), policyError(ctx, s, req.eroute.ID, err))
	}
	return explain.Error(c, flowText(req.eroute.Selector), err)
}

// Done prints a note for each reason why the eroute will not send packets.
func (req *request) Done(ctx context.Context, env *cli.Env, s klips.Stack, _ []klips.Outcome) error {
	if req.by != "clear" && req.by != "del" {
		env.Check(ctx, s, advice.Eroute(req.eroute, req.policy()))
	}
	return nil
}

// policyError finds the cause where a stack answers ENOENT to an inbound policy: the SA
// does not exist, or its group has no tun SA for the policy.
func policyError(ctx context.Context, stack klips.Stack, id klips.SAID, err error) error {
	var oe *klips.OpError
	if !errors.Is(err, syscall.ENOENT) || errors.As(err, &oe) && oe.Reason != "" {
		return err
	}
	named := &klips.OpError{Op: "set inbound policy", Object: id.String(), Err: err}
	if oe != nil {
		named.Detail = oe.Detail
	}
	switch _, err := klips.ReadGroup(ctx, stack, id); {
	case errors.Is(err, syscall.ESRCH):
		named.Reason = "there is no such SA; ipsec spi lists those that exist"
	case err == nil:
		named.Reason = "it is no tun SA, and none follows it in its group; on this stack an inbound policy belongs to a tun SA (ipsec spigrp lists the groups)"
	}
	return named
}

// flowText returns the words for a flow.
func flowText(s klips.Selector) string {
	if !s.Src.IsValid() || !s.Dst.IsValid() {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v -> %v", s.Src, s.Dst)
	switch {
	case s.Proto != 0:
		fmt.Fprintf(&b, " protocol %d", s.Proto)
	case s.OfBoth():
		b.WriteString(" protocols TCP and UDP")
	}
	if s.SrcPort != 0 {
		fmt.Fprintf(&b, " source port %d", s.SrcPort)
	}
	if s.DstPort != 0 {
		fmt.Fprintf(&b, " destination port %d", s.DstPort)
	}
	return b.String()
}
