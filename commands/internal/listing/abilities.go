package listing

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/stacks"
)

// Abilities are the abilities of a stack that depend on its kernel.
type Abilities struct {
	List []klips.Ability
	// NotKnown is the reason why there is no list, for a stack that could have one.
	NotKnown string
}

// Probe tests the abilities of a stack. For a stack whose abilities do not depend on
// the kernel, the result is empty.
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

// Write prints one line with all abilities that the stack has, and one line for each
// that is missing, with the reason.
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

// Chosen returns the reason why a stack was chosen; asked is the name that the user gave.
func Chosen(asked string) string {
	if asked != "" && asked != "auto" {
		return "--stack or IPSEC_STACK asked for it"
	}
	return "it is the first of " + strings.Join(stacks.Names[:], ", ") + " that is there"
}
