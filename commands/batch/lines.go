package batch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxLine bounds a command with all its lines, in bytes.
const maxLine = 1 << 20

// A command is what one command of a file says.
type command struct {
	line  int      // where it begins, from 1
	words []string // at least one, unless err is set
	err   error    // the lines cannot be split into words
}

// A reader reads commands.
type reader struct {
	in    *bufio.Reader
	line  int // number of lines read
	buf   []byte
	split splitter
}

func newReader(in io.Reader) *reader {
	return &reader{in: bufio.NewReaderSize(in, 64<<10)}
}

// next returns the next command, io.EOF when there is none. Any other error is
// that of the input.
func (r *reader) next() (command, error) {
	for {
		c := command{line: r.line + 1}
		size := 0
		for more := true; more; {
			n, tooLong, err := r.read(maxLine - size)
			if err == io.EOF && r.line >= c.line && c.err == nil {
				c.err = errEnd
			}
			if err == io.EOF && c.err != nil {
				break
			}
			if err != nil {
				return command{}, err
			}
			r.line++
			size += n
			if tooLong {
				if c.err == nil {
					c.err = fmt.Errorf("a command of more than %d bytes", maxLine)
				}
				more = endsWithBackslash(r.buf)
				size = 0 // the rest of it is only to be left out
				continue
			}
			var wrong error
			more, wrong = r.split.add(r.buf)
			if c.err == nil {
				c.err = wrong
			}
		}
		c.words = r.split.words()
		if c.err != nil {
			c.words = nil
			return c, nil
		}
		if len(c.words) > 0 {
			return c, nil
		}
	}
}

// read reads a line into buf, without its end: a newline, or a carriage return
// and a newline. n is its length. Of a line longer than most bytes only the
// last part is there.
func (r *reader) read(most int) (n int, tooLong bool, err error) {
	r.buf = r.buf[:0]
	for {
		part, err := r.in.ReadSlice('\n')
		n += len(part)
		if n > most+2 {
			tooLong = true
			r.buf = r.buf[:0]
		}
		r.buf = append(r.buf, part...)
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && n > 0:
		case err != nil:
			return n, tooLong, err
		}
		break
	}
	if line, ok := bytes.CutSuffix(r.buf, []byte("\n")); ok {
		r.buf, _ = bytes.CutSuffix(line, []byte("\r"))
	}
	if !tooLong {
		n = len(r.buf)
		tooLong = n > most
	}
	if r.line == 0 {
		// Editors of other systems put a mark of the encoding first.
		r.buf, _ = bytes.CutPrefix(r.buf, []byte("\ufeff"))
	}
	return n, tooLong, nil
}

// all reads all commands. It gives up when ctx ends.
func (r *reader) all(ctx context.Context) (list []command, err error) {
	for ctx.Err() == nil {
		c, err := r.next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return nil, ctx.Err()
}

// A source hands out commands: next returns io.EOF after the last one, the
// error of ctx when that ends, and errPause when there is a patience above zero
// and no command has come in that time.
type source func(ctx context.Context, patience time.Duration) (command, error)

var errPause = errors.New("no command yet")

// listed is the source of commands that have been read.
func listed(list []command) source {
	return func(ctx context.Context, _ time.Duration) (command, error) {
		if ctx.Err() != nil {
			return command{}, ctx.Err()
		}
		if len(list) == 0 {
			return command{}, io.EOF
		}
		c := list[0]
		list = list[1:]
		return c, nil
	}
}

// arriving is the source of commands that come one by one, through a pipe or
// from a terminal. Its goroutine reads one command ahead, and when ctx ends it
// is left behind, because nothing else ends a read that waits.
func arriving(ctx context.Context, r *reader) source {
	type item struct {
		c   command
		err error
	}
	items := make(chan item)
	go func() {
		for {
			c, err := r.next()
			select {
			case items <- item{c, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return func(ctx context.Context, patience time.Duration) (command, error) {
		if ctx.Err() != nil {
			return command{}, ctx.Err()
		}
		var pause <-chan time.Time // never, unless
		if patience > 0 {
			pause = time.After(patience)
		}
		select {
		case i := <-items:
			return i.c, i.err
		case <-pause:
			return command{}, errPause
		case <-ctx.Done():
			return command{}, ctx.Err()
		}
	}
}
