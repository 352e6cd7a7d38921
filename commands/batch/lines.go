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

// maxLine is the most bytes that a command may have, with all its lines.
const maxLine = 1 << 20

// A command is one command of a file, split into words.
type command struct {
	line  int      // its first line, from 1
	words []string // at least one, unless err is set
	err   error    // why the lines cannot be split into words
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

// next returns the next command, or io.EOF after the last one. Any other error is that
// of the input.
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
				size = 0 // skip the rest of this command
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

// read reads a line into buf, without its line end: a newline, or a carriage return and
// a newline. n is the length of the line. If the line is longer than most bytes, buf
// holds only its last part.
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
		// Some editors begin a file with a byte order mark.
		r.buf, _ = bytes.CutPrefix(r.buf, []byte("\ufeff"))
	}
	return n, tooLong, nil
}

// all reads all commands. It stops when ctx ends.
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

// A source returns the commands one by one: io.EOF after the last one, the error of ctx
// when ctx ends, and errPause if patience is above zero and no command arrives in that
// time.
type source func(ctx context.Context, patience time.Duration) (command, error)

var errPause = errors.New("no command yet")

// listed returns a source of commands that have been read.
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

// arriving returns a source of commands that arrive one by one, through a pipe or from
// a terminal. Its goroutine reads one command ahead. When ctx ends, the goroutine is
// abandoned, because nothing else can end a blocked read.
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
