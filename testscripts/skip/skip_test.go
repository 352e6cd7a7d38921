package skip

import (
	"os"
	"strings"
	"testing"
)

// TestRequire: the variable REQUIRE of this run has only known words.
func TestRequire(t *testing.T) {
	if _, err := Required(Root); err != nil {
		t.Error(err)
	}
}

func TestRequired(t *testing.T) {
	for _, tt := range []struct {
		list string
		w    Word
		want bool
		err  string
	}{
		{"", Root, false, ""},
		{"root", Root, true, ""},
		{"tun,root", Root, true, ""},
		{"tun,,root,", Root, true, ""},
		{"tun", Root, false, ""},
		{"root,tunn", Root, false, `REQUIRE names "tunn", which is no word`},
		{"Root", Root, false, `REQUIRE names "Root"`},
		{"root, tun", TUN, false, `REQUIRE names " tun"`},
		{"root", "rot", false, `"rot" is no word`},
	} {
		got, err := required(tt.list, tt.w)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
			t.Errorf("required(%q, %s) = %v, %v, want %v, %s", tt.list, tt.w, got, err, tt.want, tt.err)
		}
	}
}

// A call is a test that records what Without does to it.
type call struct {
	testing.TB
	skipped, failed bool
}

func (c *call) Helper()               {}
func (c *call) Skipf(string, ...any)  { c.skipped = true; panic(c) }
func (c *call) Fatalf(string, ...any) { c.failed = true; panic(c) }
func (c *call) Fatal(...any)          { c.failed = true; panic(c) }

func TestWithout(t *testing.T) {
	for _, tt := range []struct {
		require         string
		skipped, failed bool
	}{
		{"", true, false}, {"tun", true, false}, {"tun,root", false, true}, {"nothing", false, true},
	} {
		t.Setenv("REQUIRE", tt.require)
		c := &call{TB: t}
		func() {
			defer func() { recover() }()
			Without(c, Root, os.ErrPermission)
		}()
		if c.skipped != tt.skipped || c.failed != tt.failed {
			t.Errorf("REQUIRE=%q: skipped %v, failed %v", tt.require, c.skipped, c.failed)
		}
	}
}
