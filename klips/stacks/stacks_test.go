package stacks_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips/stacks"
)

func TestOpenRefusals(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	for _, c := range []struct {
		name, env, want string
		is              error
	}{
		{"", "", "no stack can be used (user: no daemon runs in DIR; klips: this kernel has no KLIPS (no /proc/net/ipsec_version); xfrm: not in this version); " +
			"start the embedded one with: ipsec setup start", fs.ErrNotExist},
		{"auto", "xfrm", "no stack can be used (user: no daemon runs in DIR; klips: this kernel has no KLIPS (no /proc/net/ipsec_version); xfrm: not in this version); " +
			"start the embedded one with: ipsec setup start", fs.ErrNotExist},
		{"user", "", "stack user: no daemon runs in DIR; start one with: ipsec setup start", fs.ErrNotExist},
		{"", "user", "stack user: no daemon runs in DIR; start one with: ipsec setup start", fs.ErrNotExist},
		{"xfrm", "user", "stack xfrm: not in this version; use --stack user", errors.ErrUnsupported},
		{"netkey", "", `stack "netkey": there is none of that name; the names are user, klips, xfrm: file does not exist`, fs.ErrNotExist},
	} {
		_, err := stacks.Open(t.Context(), c.name, func(k string) string {
			return map[string]string{"IPSEC_STACK": c.env, "IPSEC_RUNDIR": dir}[k]
		})
		got := ""
		if err != nil {
			got = strings.ReplaceAll(err.Error(), dir, "DIR")
		}
		if got != c.want || !errors.Is(err, c.is) {
			t.Errorf("Open(%q) with IPSEC_STACK=%q = %q, want %q", c.name, c.env, got, c.want)
		}
	}
}
