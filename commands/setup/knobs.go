package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
)

// parseKnobs reads what is to be set.
func parseKnobs(words []string) (map[string]int, error) {
	if len(words) == 0 {
		return nil, cli.Usagef("set: a knob is missing, as in tos=0")
	}
	knobs := map[string]int{}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok || value != "0" && value != "1" {
			return nil, cli.Usagef("set %s: write KNOB=0 or KNOB=1", quote.Value(w))
		}
		if _, twice := knobs[name]; twice {
			return nil, cli.Usagef("set %s: it was given twice", quote.Value(name))
		}
		knobs[name] = int(value[0] - '0')
	}
	return knobs, nil
}

// setKnobs sets knobs of a stack; words are what the user wrote.
func setKnobs(ctx context.Context, stack klips.Tunable, knobs map[string]int, words []string) error {
	err := stack.Set(ctx, knobs)
	what := "set " + strings.Join(words, " ")
	var oe *klips.OpError
	named := errors.As(err, &oe) && oe.Object != ""
	switch {
	case errors.Is(err, fs.ErrNotExist) && named:
		return fmt.Errorf("set %s: there is no such knob; ipsec setup status lists them", oe.Object)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no such knob; ipsec setup status lists them", what)
	case oe == nil:
		return err
	}
	if named {
		what += ": " + oe.Object
	}
	if oe.Left != "" {
		return fmt.Errorf("%s: %s; not all could be set back: %s", what, explain.Cause(err), oe.Left)
	}
	return fmt.Errorf("%s: %s", what, explain.Cause(err))
}

// writeKnobs writes a line for each knob.
func writeKnobs(w io.Writer, l []klips.Knob) {
	for _, k := range l {
		fmt.Fprintf(w, "%s=%d\n", k.Name, k.Value)
	}
}
