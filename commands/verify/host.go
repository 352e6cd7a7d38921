package verify

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/stacks"
)

// A host is what the checks read of this machine.
type host struct {
	root    string // of /proc, /dev and /sys; a test has files of its own there
	euid    int
	now     func() time.Time
	packets func() (*ruleset, error) // the rules of nftables
	// kernel opens stack xfrm.
	kernel   func(ctx context.Context, env *cli.Env) (klips.Stack, error)
	openable func(path string) error              // opens a file to read and write it
	writable func(dir string) error               // whether files can be made in a directory
	modified func(path string) (time.Time, error) // when a file was written
}

// thisHost returns the machine that the program runs on.
func thisHost() *host {
	return &host{
		root: "/", euid: os.Geteuid(), now: time.Now, packets: readRules,
		kernel: func(ctx context.Context, env *cli.Env) (klips.Stack, error) {
			return stacks.Open(ctx, environ.Stacks("xfrm", env.Getenv))
		},
		openable: func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				f.Close()
			}
			return err
		},
		writable: func(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) },
		modified: func(path string) (time.Time, error) {
			i, err := os.Stat(path)
			if err != nil {
				return time.Time{}, err
			}
			return i.ModTime(), nil
		},
	}
}

// read returns a file without the white space around its content.
func (h *host) read(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join(h.root, path))
	return strings.TrimSpace(string(b)), err
}

// has reports whether there is a file.
func (h *host) has(path string) bool {
	_, err := os.Stat(filepath.Join(h.root, path))
	return err == nil
}

// sysctl returns a parameter of the kernel, a number from 0 to 9; known is false if the kernel
// does not have it.
func (h *host) sysctl(name string) (n int, known bool) {
	text, err := h.read("proc/sys/" + name)
	if err != nil || len(text) != 1 || text[0] < '0' || text[0] > '9' {
		return 0, false
	}
	return int(text[0] - '0'), true
}
