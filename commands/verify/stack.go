package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/klips"
)

// program checks that the program and the daemon are one version.
func (s *survey) program(ctx context.Context) {
	version := s.env.Version()
	if s.name == "user" {
		t, err := s.stack.Snapshot(ctx, klips.Want{Version: true})
		running, isOurs := "", false
		if err == nil {
			running, isOurs = strings.CutPrefix(t.Version, "ipsec version: ")
		}
		if isOurs && running != version {
			s.add(warning, "version", fmt.Sprintf("this program is ipsec %s, and the daemon is %s", version, running), "type: ipsec setup restart")
			return
		}
	}
	s.add(ok, "version", "ipsec "+version, "")
}

// stackChosen checks that there is a stack.
func (s *survey) stackChosen(context.Context) {
	switch {
	case errors.Is(s.problem, fs.ErrPermission) && s.euid != 0:
		s.add(unknown, "stack", explain.Line(s.problem), "")
		return
	case s.problem != nil:
		s.add(failed, "stack", explain.Line(s.problem), "")
		return
	}
	s.add(ok, "stack", fmt.Sprintf("%s, because %s", s.name, listing.Chosen(s.env.StackName)), "")
}

// abilities checks what the kernel of the stack can do.
func (s *survey) abilities(ctx context.Context) {
	if s.stack == nil || s.name == "user" {
		return
	}
	a := listing.Probe(ctx, s.stack)
	switch {
	case a.NotKnown != "" && s.euid != 0:
		s.add(unknown, "kernel", "what it can do is not known: "+a.NotKnown, "")
		return
	case a.NotKnown != "":
		s.add(warning, "kernel", "what it can do is not known: "+a.NotKnown, "")
		return
	}
	var has []string
	for _, b := range a.List {
		if b.Missing == "" {
			has = append(has, b.Name)
			continue
		}
		s.add(warning, "kernel", "it lacks "+b.Name+": "+b.Missing, "stack user has everything")
	}
	if len(has) > 0 {
		s.add(ok, "kernel", "it has "+strings.Join(has, ", "), "")
	}
}

// foreign checks whether other programs have policies or states in the kernel.
func (s *survey) foreign(ctx context.Context) {
	stack := s.stack
	if s.name != "xfrm" {
		// The kernel applies its policies to the packets of the other stacks too.
		var err error
		if stack, err = s.kernel(ctx, s.env); err != nil {
			return // a kernel without them, or no right to read them
		}
		defer stack.Close()
	}
	t, err := stack.Snapshot(ctx, klips.Want{Foreign: true})
	switch {
	case err != nil:
		s.add(unknown, "objects of other programs", explain.Line(explain.Listing("what other programs have made", err)), "")
	case len(t.Foreign) > 0:
		s.add(warning, "objects of other programs", fmt.Sprintf("the kernel has %d IPsec states and policies that this program has not made, such as: %s", len(t.Foreign), t.Foreign[0]),
			"they can take packets before this stack; ip xfrm policy lists them, and the program that has made them removes them")
	default:
		s.add(ok, "objects of other programs", "the kernel has no IPsec states or policies of others", "")
	}
}
