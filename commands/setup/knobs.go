package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
)

// A kind describes the values of a knob.
type kind struct {
	form  string   // how to set it, in words
	words []string // of the values 0, 1, …
	most  int      // the greatest value, for numbers
}

// kindOf returns the kind of a knob. Most knobs are 0 or 1.
func kindOf(name string) kind {
	switch name {
	case "ike_bypass":
		return kind{form: "ike_bypass=peers or ike_bypass=klips", words: []string{"peers", "klips"}}
	case "mtu_rule":
		return kind{form: "mtu_rule=exact or mtu_rule=klips", words: []string{"exact", "klips"}}
	case "outbound_clear":
		return kind{form: "outbound_clear=pass or outbound_clear=drop", words: []string{"pass", "drop"}}
	case "natt_keepalive":
		return kind{form: "natt_keepalive=SECONDS, from 0 (none) to 3600", most: 3600}
	}
	return kind{form: "KNOB=0 or KNOB=1", words: []string{"0", "1"}}
}

// parse parses a value.
func (k kind) parse(text string) (value int, ok bool) {
	if k.words == nil {
		n, err := strconv.ParseUint(text, 10, 31)
		return int(n), err == nil && int(n) <= k.most
	}
	i := slices.Index(k.words, text)
	return i, i >= 0
}

// text returns a value in the form of parse.
func (k kind) text(value int) string {
	if value < 0 || value >= len(k.words) {
		return strconv.Itoa(value)
	}
	return k.words[value]
}

// parseKnobs parses the arguments of set.
func parseKnobs(words []string) (map[string]int, error) {
	if len(words) == 0 {
		return nil, cli.Usagef("set: a knob is missing, as in tos=0")
	}
	knobs := map[string]int{}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		kind := kindOf(name)
		n, valid := kind.parse(value)
		if !ok || !valid {
			return nil, cli.Usagef("set %s: write %s", quote.Value(w), kind.form)
		}
		if _, twice := knobs[name]; twice {
			return nil, cli.Usagef("set %s: it was given twice", quote.Value(name))
		}
		knobs[name] = n
	}
	return knobs, nil
}

// setKnobs sets knobs of a stack; words are the user's arguments.
func setKnobs(ctx context.Context, stack klips.Stack, knobs map[string]int, words []string) error {
	_, err := klips.Do(ctx, stack, klips.SetKnobs{Knobs: knobs})
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
	case errors.Is(err, syscall.EOPNOTSUPP) && knobs["outbound_clear"] != 0:
		return fmt.Errorf("set outbound_clear=drop: this kernel has no usable nftables, which drops what is about to leave in clear; nothing is set")
	}
	if named {
		what += ": " + oe.Object
	}
	if oe.Left != "" {
		return fmt.Errorf("%s: %s; not all could be set back: %s", what, explain.Cause(err), oe.Left)
	}
	return fmt.Errorf("%s: %s", what, explain.Cause(err))
}

// writeKnobs prints a line for each knob.
func writeKnobs(w io.Writer, l []klips.Knob) {
	for _, k := range l {
		fmt.Fprintf(w, "%s=%s\n", k.Name, kindOf(k.Name).text(k.Value))
	}
}
