package listing

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/klips"
)

// Abilities are what a stack can do, where that depends on its kernel.
type Abilities struct {
	List []klips.Ability
	// NotKnown says why there is no list, if the stack could have one.
	NotKnown string
}

// Probe finds out what a stack can do. The Abilities of one whose do not depend on the
// kernel are empty.
func Probe(ctx context.Context, stack klips.Stack) (a Abilities) {
	t, err := stack.Snapshot(ctx, klips.Want{Abilities: true})
	if err != nil {
		a.NotKnown = explain.Cause(err)
	}
	if t != nil {
		a.List = t.Abilities
	}
	return a
}

// Write prints what the stack has on one line, and on a line each what it lacks
// and why.
func (a Abilities) Write(w io.Writer) {
	if a.NotKnown != "" {
		fmt.Fprintf(w, "what it can do is not known: %s\n", a.NotKnown)
	}
	if len(a.List) == 0 {
		return
	}
	var has []string
	for _, b := range a.List {
		if b.Missing == "" {
			has = append(has, b.Name)
		}
	}
	fmt.Fprintf(w, "it has %s\n", strings.Join(has, ", "))
	for _, b := range a.List {
		if b.Missing != "" {
			fmt.Fprintf(w, "it lacks %s: %s\n", b.Name, b.Missing)
		}
	}
}
