package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klips-go/ipsec/commands/internal/quote"
)

// Print calls write with a buffered standard output. It returns the error of write, or
// that of the output, such as a full disk. Unprintable characters are escaped: the name
// of a device, for example, can contain control sequences for terminals.
func Print(env *Env, write func(w io.Writer) error) error {
	c := cleaner{out: env.Out}
	w := bufio.NewWriterSize(&c, 32<<10)
	err, ferr := write(w), w.Flush()
	if errors.Is(err, ferr) {
		ferr = nil // write has returned this error
	}
	if err = errors.Join(err, ferr, c.finish()); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// PrintExactly writes text to standard output unchanged. It is for the tables of a
// KLIPS kernel: scripts depend on their bytes.
func PrintExactly(env *Env, text []byte) error {
	if _, err := env.Out.Write(text); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// A cleaner passes text on and escapes it, see [quote.Block].
type cleaner struct {
	out  io.Writer
	rest []byte // the first bytes of an incomplete character
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

// finish passes on the bytes of an incomplete character at the end.
func (c *cleaner) finish() error {
	if len(c.rest) == 0 || c.err != nil {
		return nil // Flush has the error
	}
	out, _ := quote.Block(c.rest, false)
	_, err := c.out.Write(out)
	return err
}
