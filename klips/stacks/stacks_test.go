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
		why = u.Error()
	} else if xfrmErr == nil {
		x.Close()
	}
	for _, c := range []struct {
		name, want string
		fault      klips.Fault
		is         error
	}{
		{"", "no stack can be used (user: no daemon runs in DIR; klips: this kernel has no KLIPS (no /proc/net/ipsec_version); xfrm: XFRM)",
			klips.FaultNoStack, fs.ErrNotExist},
		{"auto", "no stack can be used (user: no daemon runs in DIR; klips: this kernel has no KLIPS (no /proc/net/ipsec_version); xfrm: XFRM)",
			klips.FaultNoStack, fs.ErrNotExist},
		{"user", "stack user: no daemon runs in DIR", klips.FaultNoDaemon, fs.ErrNotExist},
		{"netkey", `unknown stack "netkey"; want user, klips or xfrm`, klips.FaultNone, nil},
	} {
		s, err := stacks.Open(t.Context(), stacks.Config{Stack: c.name, RunDir: dir})
		if s != nil {
			s.Close()
			if xfrmErr != nil || s.Info().Name != "xfrm" {
				t.Errorf("Open(%q) opened %s", c.name, s.Info().Name)
			}
			continue // this machine's kernel has IPsec, so auto may choose it
		}
		got := ""
		if err != nil {
			got = strings.NewReplacer(dir, "DIR", why, "XFRM").Replace(err.Error())
		}
		fault := klips.FaultNone
		if errors.As(err, &u) {
			fault = u.Fault
		}
		if got != c.want || fault != c.fault || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("Open(%q) = %q, %v, want %q, %v", c.name, got, fault, c.want, c.fault)
		}
	}
}

// A run directory that cannot be trusted, or whose socket path is too long, is
// reported; no other stack is tried.
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
	for rundir, want := range map[string]klips.Fault{
		link:                           klips.FaultRundirLink,
		open:                           klips.FaultRundirMode,
		"/" + strings.Repeat("x", 100): klips.FaultRundirLong,
	} {
		for _, name := range []string{"", "auto", "user"} {
			s, err := stacks.Open(t.Context(), stacks.Config{Stack: name, RunDir: rundir})
			if s != nil {
				s.Close()
			}
			var bad *user.RundirError
			if !errors.As(err, &bad) || bad.Fault != want {
				t.Errorf("Open(%q) with %s = %v, want %v", name, rundir, err, want)
			}
		}
	}
}
