package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klips-go/ipsec/commands/internal/quote"
)

// Print gives write a buffered standard output, and returns its error or that
// of the output (a full disk). What is not printable in the output is escaped:
// names of devices, for one, can hold sequences that command terminals.
func Print(env *Env, write func(w io.Writer) error) error {
	c := cleaner{out: env.Out}
	w := bufio.NewWriterSize(&c, 32<<10)
	err, ferr := write(w), w.Flush()
	if errors.Is(err, ferr) {
		ferr = nil // write has returned the error of the output
	}
	if err = errors.Join(err, ferr, c.finish()); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// PrintExactly writes text to standard output as it is: the tables of a KLIPS
// kernel, whose bytes scripts know.
func PrintExactly(env *Env, text []byte) error {
	if _, err := env.Out.Write(text); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// A cleaner passes text on with escapes, see [quote.Block].
type cleaner struct {
	out  io.Writer
	rest []byte // the beginning of a character
	err  error
}

func (c *cleaner) Write(p []byte) (int, error) {
	text := p
	if len(c.rest) > 0 {
		text = append(c.rest, p...)
		c.rest = nil
	}
	out, incomplete := quote.Block(text, true)
	if incomplete > 0 {
		c.rest = append([]byte(nil), text[len(text)-incomplete:]...)
	}
	if _, err := c.out.Write(out); err != nil {
		c.err = err
		return 0, err
	}
	return len(p), nil
}

// finish passes on what can no longer become a character.
func (c *cleaner) finish() error {
	if len(c.rest) == 0 || c.err != nil {
		return nil // Flush has the error
	}
	out, _ := quote.Block(c.rest, false)
	_, err := c.out.Write(out)
	return err
}
