// Package spi is the applet that makes, removes and lists security
// associations.
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
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:  "spi",
		Short: "make, remove and list security associations",
		Synopsis: []string{
			"",
			"--ah ALG SA --authkey KEY [--src ADDR] [--replay_window N] [--esn] [--seq N] [--replay-seq N] [--life LIMITS]",
			"--esp ALG SA --enckey KEY [--authkey KEY] [--src ADDR] [--replay_window N] [--esn] [--seq N] [--replay-seq N] [--life LIMITS] [--natt TYPE] [--offload DEV] [--insecure-reuse]",
			"--comp ALG SA [--src ADDR]",
			"--ip4 SA --src ADDR --dst ADDR",
			"--ip6 SA --src ADDR --dst ADDR",
			"--del SA",
			"--get SA",
			"--clear",
		},
		Options: options(),
		Notes:   notes,
		Run:     run,
	}
}

// notes are the texts after the options: what SA stands for and the
// algorithms with their keys.
func notes() string {
	var b strings.Builder
	b.WriteString("SA is --said SAID, or --af FAMILY --edst ADDR --spi SPI --proto PROTO.\n")
	for _, list := range []struct {
		option string
		algs   []klips.AlgName
	}{{"esp", klips.ESPNames()}, {"ah", klips.AHNames()}, {"comp", klips.CompNames()}} {
		fmt.Fprintf(&b, "\nALG for --%s:\n", list.option)
		for _, a := range list.algs {
			fmt.Fprintf(&b, "  %-20s %s\n", a.Name, a.KeyHelp)
		}
	}
	return b.String()
}

func run(ctx context.Context, env *cli.Env, args []string) error {
	req, err := parse(env, args)
	defer req.spec.ClearKeys()
	var app *cli.App
	if req.Help { // nothing else needs it, and it takes time to make
		app = App()
	}
	stack, err := req.Open(ctx, env, app, err)
	if stack == nil {
		return err
	}
	defer stack.Close()
	switch req.action {
	case actList:
		return listing.Print(ctx, env, stack, listing.Table[[]klips.SA]{
			Name: "ipsec_spi", About: "SAs", Read: klips.Stack.SAs, Write: procfs.WriteSPI})
	case actAdd:
		return add(ctx, env, stack, req)
	case actDel:
		req.Debugf(env, "remove %s", req.spec.ID)
		if err := stack.DeleteSA(ctx, req.spec.ID); err != nil {
			return explain.Error(explain.DeleteSA, req.spec.ID.String(), err)
		}
	case actGet:
		return get(ctx, env, stack, req)
	case actClear:
		req.Debugf(env, "remove all SAs")
		if err := stack.ClearSAs(ctx); err != nil {
			return explain.Error(explain.ClearSAs, "", err)
		}
	}
	return finish(env, req)
}

func add(ctx context.Context, env *cli.Env, stack klips.Stack, req *request) error {
	s := &req.spec
	if enc, _ := s.Enc.Info(); enc.AEAD && !stack.Has(klips.CapAEAD) {
		return fmt.Errorf("%s: stack %s has no combined-mode ciphers; take aes256-sha2_256, or another stack (--stack)", s.ID, stack.Name())
	}
	if s.Window > klipsWindow && !stack.Has(klips.CapLargeWindow) {
		return fmt.Errorf("%s: stack %s has replay windows of at most %d packets, not %d", s.ID, stack.Name(), klipsWindow, s.Window)
	}
	if s.ESN && !stack.Has(klips.CapESN) {
		return fmt.Errorf("%s: stack %s has no extended sequence numbers; leave --esn out at both ends, or take another stack (--stack)", s.ID, stack.Name())
	}
	if (s.Seq != nil || s.ReplaySeq != nil) && !stack.Has(klips.CapSeq) {
		return fmt.Errorf("%s: stack %s cannot be told sequence numbers, as its messages have no place for them; leave --seq and --replay-seq out, or take another stack (--stack)", s.ID, stack.Name())
	}
	if s.Offload != "" && !stack.Has(klips.CapOffload) {
		return fmt.Errorf("%s: --offload %q: stack %s does all the work itself; leave the option out, or take stack xfrm (--stack)", s.ID, s.Offload, stack.Name())
	}
	if s.Soft.Packets|s.Hard.Packets != 0 && !stack.Has(klips.CapPacketLimits) {
		// KLIPS' tools take the limit and drop it without a word.
		cli.Notef(env, "%s: stack %s has no limits in packets; this one has no effect", s.ID, stack.Name())
	}
	for _, n := range req.notes {
		cli.Notef(env, "%s: %s", s.ID, n)
	}
	req.Debugf(env, "make %s %s from %v, replay window %d, ESN %v", s.ID, s.Transform.Name(s.ID.Proto), s.Src, s.Window, s.ESN)
	if err := stack.AddSA(ctx, s); err != nil {
		if holder, ok := refHolder(ctx, stack, s, err); ok {
			return fmt.Errorf("%s: not made: the SA reference %d belongs to %s; leave --saref out, or take another number", s.ID, s.Ref, holder)
		}
		return explain.Error(explain.AddSA, s.ID.String(), err)
	}
	if c, ok := klips.As[klips.Carrier](stack); ok {
		// Old scripts make such SAs, so they are no error.
		if f := c.CarryFault(ctx, s); f != klips.FaultNone {
			env.Check(ctx, stack, advice.Dropped(s.ID, f))
		}
	}
	if s.NATT.Type != klips.NATTNone {
		env.Check(ctx, stack, advice.Port(s.ID, s.NATT))
	}
	env.Check(ctx, stack, advice.SA(s))
	if req.dumpRef {
		sa, err := stack.GetSA(ctx, s.ID)
		if err != nil {
			return explain.Error(explain.GetSA, s.ID.String(), err)
		}
		if err := cli.Print(env, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s: saref=%d/%d\n", env.Name, sa.Ref, sa.RefHim)
			return err
		}); err != nil {
			return err
		}
	}
	return finish(env, req)
}

// refHolder returns the other SA that has the reference number that s asks for, if
// that is why s was refused: the errno is the one of wrong algorithms too.
func refHolder(ctx context.Context, stack klips.Stack, s *klips.SASpec, err error) (klips.SAID, bool) {
	var oe *klips.OpError
	told := errors.As(err, &oe) && (oe.Fault != klips.FaultNone || oe.Reason != "")
	if s.Ref == 0 || told || !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EEXIST) {
		return klips.SAID{}, false
	}
	sas, err := stack.SAs(ctx)
	if err != nil {
		return klips.SAID{}, false
	}
	i := slices.IndexFunc(sas, func(sa klips.SA) bool { return sa.Ref == s.Ref && sa.ID != s.ID })
	// An SA of the same name is the nearer reason.
	if i < 0 || slices.ContainsFunc(sas, func(sa klips.SA) bool { return sa.ID == s.ID }) {
		return klips.SAID{}, false
	}
	return sas[i].ID, true
}

func get(ctx context.Context, env *cli.Env, stack klips.Stack, req *request) error {
	sa, err := stack.GetSA(ctx, req.spec.ID)
	if err != nil {
		return explain.Error(explain.GetSA, req.spec.ID.String(), err)
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
	return finish(env, req)
}

// finish says that the stack has replied, if that was asked for.
func finish(env *cli.Env, req *request) error {
	if !req.listenReply {
		return nil
	}
	return cli.Print(env, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: exited normally\n", env.Name)
		return err
	})
}
