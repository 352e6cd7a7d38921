package redraw

import (
	"bytes"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// A terminal is standard output, which may be one, and its keyboard.
type terminal struct {
	out     io.Writer
	screen  *os.File      // out, if it is a terminal; else nil
	keys    *os.File      // the keyboard, if its state was changed; else nil
	before  *unix.Termios // that state
	quit    chan struct{} // closed by the key q
	changed chan os.Signal
}

// Control sequences of ECMA-48.
const (
	home      = "\x1b[H"
	clearLine = "\x1b[K" // from the cursor
	clearRest = "\x1b[J"
)

// open prepares the streams of env. The caller closes the terminal.
func open(env *cli.Env) (*terminal, error) {
	t := &terminal{out: env.Out, quit: make(chan struct{})}
	if !cli.IsTerminal(env.Out) {
		return t, nil
	}
	t.screen = env.Out.(*os.File)
	t.changed = make(chan os.Signal, 1)
	signal.Notify(t.changed, syscall.SIGWINCH, syscall.SIGCONT)
	if cli.IsTerminal(env.In) {
		if err := t.openKeys(env.In.(*os.File)); err != nil {
			t.close()
			return nil, os.NewSyscallError("terminal", err)
		}
	}
	return t, nil
}

// openKeys makes the keyboard send each key at once and show none. Its reader ends with the
// process: nothing can interrupt it.
func (t *terminal) openKeys(keys *os.File) (err error) {
	if t.before, err = unix.IoctlGetTermios(int(keys.Fd()), unix.TCGETS); err != nil {
		return err
	}
	t.keys = keys
	if err := t.grab(); err != nil {
		return err
	}
	go func() {
		for b := make([]byte, 1); ; {
			n, err := keys.Read(b)
			if err != nil {
				return
			}
			if n == 1 && (b[0] == 'q' || b[0] == 'Q') {
				close(t.quit)
				return
			}
		}
	}()
	return nil
}

// grab sets the state of the keyboard. Signals still come from it.
func (t *terminal) grab() error {
	if t.keys == nil {
		return nil
	}
	state := *t.before
	state.Lflag &^= unix.ICANON | unix.ECHO
	state.Cc[unix.VMIN], state.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(int(t.keys.Fd()), unix.TCSETS, &state)
}

// there reports whether standard output is a terminal.
func (t *terminal) there() bool { return t.screen != nil }

// size returns the size of the terminal.
func (t *terminal) size() Size {
	if !t.there() {
		return Size{}
	}
	w, err := unix.IoctlGetWinsize(int(t.screen.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return Size{}
	}
	return Size{int(w.Row), int(w.Col)}
}

// print prints a text. On a terminal it takes the place of the text before, and what does not
// fit is left out: a line that goes on in the next row, or a last line that moves the others
// up, would spoil the picture.
func (t *terminal) print(text []byte) error {
	text, _ = quote.Block(text, false)
	if t.there() {
		_ = t.grab() // a shell that has stopped the program and continued it may have changed it
		text = t.frame(text, t.size())
	}
	_, err := t.out.Write(text)
	return err
}

// frame returns a text with control sequences.
func (t *terminal) frame(text []byte, size Size) []byte {
	var b bytes.Buffer
	b.WriteString(home)
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if size.Rows > 1 && len(lines) > size.Rows-1 {
		lines = lines[:size.Rows-1] // the cursor stays in the last row
	}
	for _, line := range lines {
		if size.Columns > 0 && utf8.RuneCountInString(line) > size.Columns {
			line = string([]rune(line)[:size.Columns])
		}
		b.WriteString(line + clearLine + "\r\n")
	}
	b.WriteString(clearRest)
	return b.Bytes()
}

// close puts the terminal back into its state before. The last text stays.
func (t *terminal) close() {
	if t.changed != nil {
		signal.Stop(t.changed)
	}
	if t.keys != nil {
		_ = unix.IoctlSetTermios(int(t.keys.Fd()), unix.TCSETS, t.before)
	}
}
