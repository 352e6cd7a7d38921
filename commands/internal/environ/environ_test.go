package environ

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/klips/stacks"
)

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

func TestStatedir(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		getenv func(string) string
		want   string
	}{
		{env(), marks.Here()},
		{env("IPSEC_STATEDIR", "/x"), "/x"},
		{env("IPSEC_STATEDIR", "x"), filepath.Join(cwd, "x")},
		{env("IPSEC_STATEDIR", "none"), ""},
		{env("IPSEC_RUNDIR", "/r"), ""},
		{env("IPSEC_RUNDIR", "/r", "IPSEC_STATEDIR", "/x"), "/x"},
	} {
		if got := Statedir(tt.getenv); got != tt.want {
			t.Errorf("Statedir = %q, want %q", got, tt.want)
		}
	}
}

// TestGet: an empty IPSEC_STATEDIR means none; other empty variables count as unset.
func TestGet(t *testing.T) {
	t.Setenv("IPSEC_STATEDIR", "")
	t.Setenv("IPSEC_RUNDIR", "")
	if got := Get("IPSEC_STATEDIR"); got != "none" {
		t.Errorf("an empty IPSEC_STATEDIR is %q", got)
	}
	if got := Get("IPSEC_RUNDIR"); got != "" {
		t.Errorf("an empty IPSEC_RUNDIR is %q", got)
	}
	t.Setenv("IPSEC_STATEDIR", "/x")
	if got := Get("IPSEC_STATEDIR"); got != "/x" {
		t.Errorf("IPSEC_STATEDIR is %q", got)
	}
	os.Unsetenv("IPSEC_STATEDIR")
	if got := Get("IPSEC_STATEDIR"); got != "" {
		t.Errorf("no IPSEC_STATEDIR is %q", got)
	}
}

func TestStacks(t *testing.T) {
	getenv := env("IPSEC_STACK", "xfrm", "IPSEC_RUNDIR", "r", "IPSEC_STATEDIR", "/s",
		"IPSEC_PROC_NET", "/n", "IPSEC_PROC_SYS", "/y", "IPSEC_PFKEY_SOCKET", "/p")
	want := stacks.Config{Stack: "xfrm", RunDir: "r", StateDir: "/s", Kernel: classic.Config{ProcNet: "/n", ProcSys: "/y", PFKeySocket: "/p"}}
	if got := Stacks("", getenv); got != want {
		t.Errorf("Stacks = %+v, want %+v", got, want)
	}
	want.Stack = "user"
	if got := Stacks("user", getenv); got != want {
		t.Errorf("Stacks = %+v, want %+v", got, want)
	}
}
