// Package spi is the applet that makes, removes and lists security associations.
package spi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/advice"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/syntax"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:  "spi",
		Short: "make, remove and list security associations",
		Synopsis: []string{
			"[--json]",
			"--ah ALG SA --authkey KEY [--src ADDR] [--replay_window N] [--esn] [--align8] [--seq N] [--replay-seq N] [--life LIMITS]",
			"--esp ALG SA --enckey KEY [--authkey KEY] [--src ADDR] [--replay_window N] [--esn] [--seq N] [--replay-seq N] [--life LIMITS] [--natt TYPE] [--offload DEV] [--insecure-reuse]",
			"--comp ALG SA [--src ADDR]",
			"--ip4 SA --src ADDR --dst ADDR [--copy-tos]",
			"--ip6 SA --src ADDR --dst ADDR [--copy-tos]",
			"--del SA",
			"--get SA",
			"--clear",
		},
		Options: options(),
		Notes:   notes,
		Parse:   command,
	}
}

// notes returns the text after the options: the forms of SA, and the algorithms with
// their keys.
func notes() string {
	var b strings.Builder
	b.WriteString("SA is --said SAID, or --af FAMILY --edst ADDR --spi SPI --proto PROTO.\n")
	for _, list := range []struct {
		option string
		algs   []syntax.AlgName
	}{{"esp", syntax.ESPNames()}, {"ah", syntax.AHNames()}, {"comp", syntax.CompNames()}} {
		fmt.Fprintf(&b, "\nALG for --%s:\n", list.option)
		for _, a := range list.algs {
			fmt.Fprintf(&b, "  %-20s %s\n", a.Name, a.KeyHelp)
		}
	}
	return b.String()
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	req, err := parse(env, args)
	var c cli.Command = req
	switch req.action {
	case actList:
		c = list.Reader(&req.Common)
	case actGet:
		c = cli.Reader(req.get)
	}
	return req.Command(env, App, err, c)
}

// list is the table that is printed if no action is given.
var list = listing.Table{
	Name: "ipsec_spi", About: "SAs", Want: klips.Want{SAs: true},
	Write: func(w io.Writer, t *klips.Snapshot) error { return procfs.WriteSPI(w, t.SAs) },
	JSON:  output.NewSPIList, JSONParts: output.WriteSPIParts,
}

// Run makes or removes an SA, or removes all.
func (req *request) Run(ctx context.Context, env *cli.Env) error { return cli.Change(ctx, env, req) }

// Clear overwrites the keys.
func (req *request) Clear() { req.spec.ClearKeys() }

// Keys returns the keys of the SA to be made. Clear overwrites them.
func (req *request) Keys() [][]byte { return [][]byte{req.spec.EncKey, req.spec.AuthKey} }

// Changes returns one change.
func (req *request) Changes(_ context.Context, env *cli.Env, s klips.Stack) ([]klips.Change, error) {
	req.DebugStack(env, s)
	id := req.spec.ID
	switch req.action {
	case actDel:
		req.Debugf(env, "remove %s", id)
		return []klips.Change{klips.DeleteSA{ID: id}}, nil
	case actClear:
		req.Debugf(env, "remove all SAs")
		return []klips.Change{klips.ClearSAs{}}, nil
	}
	if err := req.possible(env, s.Info()); err != nil {
		return nil, err
	}
	return []klips.Change{klips.AddSA{SASpec: &req.spec}}, nil
}

// Refused adds words to an error of the change.
func (req *request) Refused(ctx context.Context, s klips.Stack, c klips.Change, err error) error {
	if req.action == actAdd {
		if holder, ok := refHolder(ctx, s, &req.spec, err); ok {
			return fmt.Errorf("%s: not made: the SA reference %d belongs to %s; leave --saref out, or take another number", req.spec.ID, req.spec.Ref, holder)
		}
	}
	return explain.Error(c, c.Object(), err)
}

// Done prints the requested results about an SA that was made.
func (req *request) Done(ctx context.Context, env *cli.Env, s klips.Stack, o []klips.Outcome) error {
	if req.action == actAdd {
		if err := req.added(ctx, env, s, o[0]); err != nil {
			return err
		}
	}
	return req.finish(env)
}

// possible returns the reason why a stack cannot make the SA, and prints notes about
// it.
func (req *request) possible(env *cli.Env, stack klips.Info) error {
	s := &req.spec
	if enc, _ := s.Enc.Info(); enc.AEAD && !stack.Has(klips.CapAEAD) {
		return fmt.Errorf("%s: stack %s has no combined-mode ciphers; take aes256-sha2_256, or another stack (--stack)", s.ID, stack.Name)
	}
	if s.Window > KLIPSWindow && !stack.Has(klips.CapLargeWindow) {
		return fmt.Errorf("%s: stack %s has replay windows of at most %d packets, not %d", s.ID, stack.Name, KLIPSWindow, s.Window)
	}
	if s.ESN && !stack.Has(klips.CapESN) {
		return fmt.Errorf("%s: stack %s has no extended sequence numbers; leave --esn out at both ends, or take another stack (--stack)", s.ID, stack.Name)
	}
	if (s.Seq != nil || s.ReplaySeq != nil) && !stack.Has(klips.CapSeq) {
		return fmt.Errorf("%s: stack %s cannot be told sequence numbers, as its messages have no place for them; leave --seq and --replay-seq out, or take another stack (--stack)", s.ID, stack.Name)
	}
	if s.Offload != "" && !stack.Has(klips.CapOffload) {
		return fmt.Errorf("%s: --offload %q: stack %s does all the work itself; leave the option out, or take stack xfrm (--stack)", s.ID, s.Offload, stack.Name)
	}
	if s.Soft.Packets|s.Hard.Packets != 0 && !stack.Has(klips.CapPacketLimits) {
		// KLIPS' tools accept the limit and ignore it without a message.
		cli.Notef(env, "%s: stack %s has no limits in packets; this one has no effect", s.ID, stack.Name)
	}
	for _, n := range req.notes {
		cli.Notef(env, "%s: %s", s.ID, n)
	}
	req.Debugf(env, "make %s %s from %v, replay window %d, ESN %v", s.ID, s.Transform.Name(s.ID.Proto), s.Src, s.Window, s.ESN)
	return nil
}

// added prints notes about the SA that was made.
func (req *request) added(ctx context.Context, env *cli.Env, stack klips.Stack, o klips.Outcome) error {
	s := &req.spec
	if o.Fault != klips.FaultNone {
		// Old scripts make such SAs, so this is not an error.
		env.Check(ctx, stack, advice.Dropped(s.ID, o.Fault))
	}
	if s.NATT.Type != klips.NATTNone {
		env.Check(ctx, stack, advice.Port(s.ID, s.NATT))
	}
	env.Check(ctx, stack, advice.SA(s))
	if req.dumpRef {
		sa, err := klips.ReadSA(ctx, stack, s.ID)
		if err != nil {
			return explain.Reading(s.ID, err)
		}
		if err := cli.Print(env, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s: saref=%d/%d\n", env.Name, sa.Ref, sa.RefHim)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// refHolder returns the other SA that has the reference number of s, if that is the
// reason why s was refused: the same errno also means wrong algorithms.
func refHolder(ctx context.Context, stack klips.Stack, s *klips.SASpec, err error) (klips.SAID, bool) {
	var oe *klips.OpError
	told := errors.As(err, &oe) && (oe.Fault != klips.FaultNone || oe.Reason != "")
	if s.Ref == 0 || told || !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EEXIST) {
		return klips.SAID{}, false
	}
	sas, err := klips.ReadSAs(ctx, stack)
	if err != nil {
		return klips.SAID{}, false
	}
	i := slices.IndexFunc(sas, func(sa klips.SA) bool { return sa.Ref == s.Ref && sa.ID != s.ID })
	// An SA of the same name is the more likely reason.
	if i < 0 || slices.ContainsFunc(sas, func(sa klips.SA) bool { return sa.ID == s.ID }) {
		return klips.SAID{}, false
	}
	return sas[i].ID, true
}

// get prints the lifetimes of an SA.
func (req *request) get(ctx context.Context, env *cli.Env, stack klips.Stack) error {
	req.DebugStack(env, stack)
	sa, err := klips.ReadSA(ctx, stack, req.spec.ID)
	if err != nil {
		return explain.Reading(req.spec.ID, err)
	}
	l := sa.Life
	if err := cli.Print(env, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: lifetime_current=%d(allocations)/%d(bytes)/%d(addtime)/%d(usetime)\n", env.Name,
			l.Allocations.Count, l.Bytes.Raw(), l.AddTime.Count, l.UseTime.Count)
		return err
	}); err != nil {
		return err
	}
	if note := advice.Bytes(sa); note != "" {
		cli.Notef(env, "%s", note)
	}
	return req.finish(env)
}

// finish prints that the stack has replied, if requested.
func (req *request) finish(env *cli.Env) error {
	if !req.listenReply {
		return nil
	}
	return cli.Print(env, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: exited normally\n", env.Name)
		return err
	})
}
