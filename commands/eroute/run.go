// Package eroute is the applet that adds, removes and lists eroutes, which send
// packets into security associations.
package eroute

import (
	"context"
	"errors"
	"fmt"
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
		Name:  "eroute",
		Short: "send packets into security associations, list where they go",
		Synopsis: []string{
			"",
			"--add FLOW SA",
			"--replace FLOW SA",
			"--addin FLOW SA",
			"--del FLOW",
			"--clear",
		},
		Options: options(),
		Notes:   notes,
		Run:     run,
	}
}

func notes() string {
	return "FLOW is --src SUBNET --dst SUBNET, perhaps with --eraf FAMILY before them and\n" +
		"with --transport-proto PROTO [--src-port PORT] [--dst-port PORT].\n" +
		"SA is --said SAID, or --af FAMILY --edst ADDR --spi SPI --proto PROTO; it is the\n" +
		"first of its group. Packets without an eroute are dropped.\n"
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
	for _, note := range req.notes {
		cli.Notef(env, "%s", note)
	}
	flow := flowText(req.eroute.Selector)
	switch req.by {
	case "":
		return listing.Print(ctx, env, stack, listing.Table[[]klips.Eroute]{
			Name: "ipsec_eroute", About: "eroutes", Read: klips.Stack.Eroutes, Write: procfs.WriteEroute})
	case "clear":
		req.Debugf(env, "remove all eroutes")
		return explain.Error(explain.ClearEroutes, "", stack.ClearEroutes(ctx))
	case "del":
		req.Debugf(env, "remove %s", flow)
		return explain.Error(explain.DeleteEroute, flow, stack.DeleteEroute(ctx, req.eroute.Selector))
	}
	req.Debugf(env, "%s %s => %s", req.by, flow, req.eroute.ID)
	op, object := explain.AddEroute, flow
	switch req.op() {
	case klips.ErouteReplace:
		op = explain.ReplaceEroute
	case klips.ErouteAddIn, klips.ErouteReplaceIn:
		op, object = explain.SetPolicy, req.eroute.ID.String()
		if req.eroute.Proto != 0 && !stack.Has(klips.CapTransportPolicy) {
			cli.Notef(env, "on this stack an inbound policy is for all protocols and ports; --transport-proto, --src-port and --dst-port have no effect on it")
		}
	}
	if err := stack.SetEroute(ctx, req.eroute, req.op()); err != nil {
		if op == explain.SetPolicy {
			err = policyError(ctx, stack, req.eroute.ID, err)
		}
		return explain.Error(op, object, err)
	}
	env.Check(ctx, stack, advice.Eroute(req.eroute, req.op()))
	return nil
}

// policyError says which it was where a stack answers ENOENT to an inbound policy:
// that there is no SA, or no tun SA for the policy.
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

// flowText names a flow in messages.
func flowText(s klips.Selector) string {
	if !s.Src.IsValid() || !s.Dst.IsValid() {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v -> %v", s.Src, s.Dst)
	if s.Proto != 0 {
		fmt.Fprintf(&b, " protocol %d", s.Proto)
	}
	if s.SrcPort != 0 {
		fmt.Fprintf(&b, " source port %d", s.SrcPort)
	}
	if s.DstPort != 0 {
		fmt.Fprintf(&b, " destination port %d", s.DstPort)
	}
	return b.String()
}
