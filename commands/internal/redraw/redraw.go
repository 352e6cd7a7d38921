// Package redraw prints a text again and again: on a terminal each one in the place of the
// one before, and else one after the other, without control sequences.
package redraw

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// A Size is the size of a terminal in characters; zero where there is none, which then has no
// limit.
type Size struct{ Rows, Columns int }

// A Draw writes the text of one moment.
type Draw func(ctx context.Context, w io.Writer, size Size) error

// Options are how often a text is printed.
type Options struct {
	Interval time.Duration
	Count    uint64 // how many texts; 0: until the user ends it
	// WaitFirst waits for an interval before the first text, except on a terminal. So a
	// text about changes has some.
	WaitFirst bool
	// After returns a channel that gets a value after a time, for tests; nil means
	// [time.After].
	After func(time.Duration) <-chan time.Time
}

// Watch prints what draw writes until the user ends it, which is no error: with a signal, or
// on a terminal with the key q. The terminal is then as it was before.
//
// The first error of draw ends it. A later one, as when the stack is restarted, takes the
// place of the text, and Watch goes on. An error of the output ends it at any time.
func Watch(ctx context.Context, env *cli.Env, o Options, draw Draw) error {
	if o.After == nil {
		o.After = time.After
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	t, err := open(env)
	if err != nil {
		return err
	}
	defer t.close()
	wait := o.WaitFirst && !t.there()
	for n := uint64(0); o.Count == 0 || n < o.Count; n++ {
		if wait {
			select {
			case <-ctx.Done():
				return nil
			case <-t.quit:
				return nil
			case <-t.changed: // of its size, or it was stopped
			case <-o.After(o.Interval):
			}
		}
		wait = true
		var text bytes.Buffer
		if !t.there() && n > 0 {
			text.WriteByte('\n')
		}
		if err := draw(ctx, &text, t.size()); err != nil && ctx.Err() == nil {
			if n == 0 {
				return err
			}
			t.fail(env, &text, err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := t.print(text.Bytes()); err != nil {
			return fmt.Errorf("standard output: %w", err)
		}
	}
	return nil
}

// fail puts an error in the place of a text: on a terminal there, and else on standard error.
func (t *terminal) fail(env *cli.Env, text *bytes.Buffer, err error) {
	text.Reset()
	if line := explain.Line(err); t.there() {
		fmt.Fprintln(text, quote.Line(line))
	} else {
		cli.Notef(env, "%s", line)
	}
}

// ParseInterval parses a number of seconds, 0.1 to a day, for an option.
func ParseInterval(option, text string) (time.Duration, error) {
	const least, most = 100 * time.Millisecond, 24 * time.Hour
	d, err := time.ParseDuration(text + "s")
	if err != nil || strings.Trim(text, "0123456789.") != "" || d < least || d > most {
		return 0, cli.Usagef("%s %s: want seconds, from 0.1 to 86400", option, quote.Value(text))
	}
	return d, nil
}
