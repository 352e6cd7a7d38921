package barf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/ends"
)

// A machine is what the sections are read from, apart from the stack.
type machine interface {
	now() time.Time
	host() string
	// kernel returns the name and the release of the kernel.
	kernel() string
	addresses() []netip.Addr
	// program runs a command line of plain words and returns what it prints.
	program(ctx context.Context, line string) string
	// read returns a file, and glob the names of files. Both are absolute.
	read(path string) ([]byte, error)
	glob(pattern string) []string
}

// system is the machine that this program runs on.
type system struct{}

func (system) now() time.Time { return time.Now() }

func (system) host() string {
	name, _ := os.Hostname()
	return name
}

func (system) kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
}

func (system) addresses() []netip.Addr { return ends.Addresses() }

func (system) read(path string) ([]byte, error) { return os.ReadFile(path) }

func (system) glob(pattern string) []string {
	l, _ := filepath.Glob(pattern) // the patterns are right
	return l
}

const (
	programTime = 10 * time.Second // of another program
	programSize = 1 << 20          // bytes of its output
)

func (system) program(ctx context.Context, line string) string {
	words := strings.Fields(line)
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	var out bytes.Buffer
	w := &limited{&out, programSize} // one writer: then the command's two outputs take turns
	cmd.Stdout, cmd.Stderr = w, w
	cmd.WaitDelay = time.Second
	switch err := cmd.Run(); {
	case errors.Is(err, exec.ErrNotFound):
		return words[0] + " is not installed\n"
	case err != nil:
		fmt.Fprintf(&out, "%v\n", err)
	}
	return out.String()
}

// limited drops what is more than left bytes.
type limited struct {
	b    *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.b.Write(p[:n])
	l.left -= n
	return len(p), nil
}
