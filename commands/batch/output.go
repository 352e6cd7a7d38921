package batch

import (
	"bytes"
	"fmt"
	"io"
	"time"
)

// A progress is the line on a terminal that shows how many commands are done. It is
// hidden while anything else is printed.
type progress struct {
	w     io.Writer // nil: there is no terminal
	total int       // 0: not known
	next  time.Time // when it may change again
	shown bool
}

// pace is the shortest time between two changes of the line.
const pace = time.Second / 5

// step shows how many commands are done.
func (p *progress) step(done int, now time.Time) {
	if p.w == nil || now.Before(p.next) {
		return
	}
	text := fmt.Sprintf("\r%d commands", done)
	if p.total > 0 {
		text = fmt.Sprintf("\r%d of %d", done, p.total)
	}
	io.WriteString(p.w, text)
	p.next, p.shown = now.Add(pace), true
}

// hide removes the line.
func (p *progress) hide() {
	if p.shown {
		io.WriteString(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// An output is what a command writes to. It passes the text on to an output of the
// program, hides the progress line first, and puts a prefix before each line.
type output struct {
	w        io.Writer
	progress *progress
	prefix   func() string // nil: none
	within   bool          // in the middle of a line
	held     *[]printed    // if not nil: text is kept here and not written
}

// A printed is a text that is held back, and the output that it is for.
type printed struct {
	to   *output
	text []byte
}

// Write writes whole lines at once, so that lines of different writers do not mix.
func (o *output) Write(p []byte) (int, error) {
	if o.held != nil {
		*o.held = append(*o.held, printed{o, bytes.Clone(p)})
		return len(p), nil
	}
	o.progress.hide()
	if o.prefix == nil {
		return o.w.Write(p)
	}
	prefix := o.prefix()
	var b []byte
	for line := range bytes.Lines(p) {
		if !o.within {
			b = append(b, prefix...)
		}
		b = append(b, line...)
		o.within = line[len(line)-1] != '\n'
	}
	if _, err := o.w.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}
