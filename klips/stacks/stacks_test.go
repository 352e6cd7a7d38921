package stacks_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/stacks"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/xfrm"
)

func TestOpenRefusals(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	x, xfrmErr := xfrm.Open()
	why := "the kernel of this machine has IPsec"
	var u *klips.UnavailableError
	if errors.As(xfrmErr, &u) {
		why = u.Why
	} else if xfrmErr == nil {
		x.Close()
	}
	for _, c := range []struct {
		name, want string
		is         error
	}{
		{"", "no stack can be used (user: no daemon runs in DIR; klips: this kernel has no KLIPS (no /proc/net/ipsec_version); xfrm: XFRM); " +
			"start the embedded one with: ipsec setup start", fs.ErrNotExist},
		{"auto", "no stack can be used (user: no daemon runs in DIR; klips: this kernel has no KLIPS (no /proc/net/ipsec_version); xfrm: XFRM); " +
			"start the embedded one with: ipsec setup start", fs.ErrNotExist},
		{"user", "stack user: no daemon runs in DIR; start one with: ipsec setup start", fs.ErrNotExist},
		{"netkey", `unknown stack "netkey"; want user, klips or xfrm`, nil},
	} {
		s, err := stacks.Open(t.Context(), stacks.Config{Stack: c.name, RunDir: dir})
		if s != nil {
			s.Close()
			if xfrmErr != nil || s.Info().Name != "xfrm" {
				t.Errorf("Open(%q) opened %s", c.name, s.Info().Name)
			}
			continue // the kernel of this machine has IPsec: auto is right to take it
		}
		got := ""
		if err != nil {
			got = strings.NewReplacer(dir, "DIR", why, "XFRM").Replace(err.Error())
		}
		if got != c.want || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("Open(%q) = %q, want %q", c.name, got, c.want)
		}
	}
}

// A run directory that cannot be trusted, or has no place for a socket, is told of
// and not passed over for another stack.
func TestBadRundir(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for rundir, want := range map[string]string{
		link:                           "it is a symbolic link",
		open:                           "other users may write to the directory",
		"/" + strings.Repeat("x", 100): "IPSEC_RUNDIR is too long",
	} {
		for _, name := range []string{"", "auto", "user"} {
			s, err := stacks.Open(t.Context(), stacks.Config{Stack: name, RunDir: rundir})
			if s != nil {
				s.Close()
			}
			var bad *user.RundirError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
				t.Errorf("Open(%q) with %s = %v, want %q", name, rundir, err, want)
			}
		}
	}
}
