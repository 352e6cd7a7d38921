package clitest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
)

// TestReplayBinary runs one of this number of recordings of each tool.
const sample = 50

// TestReplayBinary runs a sample of the recordings with the binary, as "ipsec spi" and
// by the link "ipsec_spi".
func TestReplayBinary(t *testing.T) {
	dir := t.TempDir()
	ipsec := filepath.Join(dir, "ipsec")
	build := exec.Command("go", "build", "-o", ipsec, "github.com/klips-go/ipsec/cmd/ipsec")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	proc := recorded.ProcNet(t)
	m := newMachine(t)
	for tool := range apps {
		if err := os.Symlink("ipsec", filepath.Join(dir, "ipsec_"+tool)); err != nil {
			t.Fatal(err)
		}
	}
	met, ran := map[string]int{}, map[string]int{}
	for c := range recorded.Commands(t) {
		if c.Exit != 0 || c.Set() != "full" || len(c.Env) > 1 || len(c.Ioctls) > 0 || c.Undefined ||
			strings.Contains(strings.Join(c.Args, " "), "gw") || len(c.Args) > 0 && len(c.Messages) == 0 {
			continue
		}
		// Neighbouring command lines are similar, so a sample is enough.
		if met[c.Tool]++; len(c.Args) > 0 && met[c.Tool]%sample != 0 {
			continue
		}
		want := verdictOf(t, c)
		d := &difference{Command: c, want: want, printed: printed(t, c, proc), asked: true}
		// The codes of errors are known in this process alone.
		var known error
		if here := (&golden{m, proc}).replay(t, c, want); here != nil {
			known = here.got.Error
		}
		for _, argv := range [][]string{{ipsec, c.Tool}, {ipsec + "_" + c.Tool}} {
			k := newTape(t, c)
			m.stack(k, "") // this connects the tape
			cmd := exec.Command(argv[0], append(slices.Clone(argv[1:]), c.Args...)...)
			cmd.Env = append(os.Environ(), "IPSEC_STACK=klips", "IPSEC_PFKEY_SOCKET="+m.path, "IPSEC_PROC_NET="+filepath.Join(proc, c.Set()))
			var errOut strings.Builder
			cmd.Stderr = &errOut
			out, err := cmd.Output()
			d.got, d.accepted = clitest.Result{Out: string(out), Err: errOut.String(), Error: known}, err == nil
			if d.what = ""; d.accepted {
				messages, _ := k.asked()
				d.what = compare(messages, want.messages)
			}
			if (err != nil || d.what != "") && reasonFor(d) >= 0 {
				continue
			}
			if err != nil || d.what != "" {
				t.Errorf("%s %q: %v; %s%s", filepath.Base(argv[0]), c.Args, err, errOut.String(), d.what)
			}
			if len(c.Args) == 0 && string(out) != d.printed {
				t.Errorf("%s printed %q, want %q", c.Tool, out, d.printed)
			}
			ran[c.Tool]++
		}
	}
	for tool := range apps {
		if tool != "tncfg" && ran[tool] < 4 {
			t.Errorf("%s ran %d times", tool, ran[tool])
		}
	}
	t.Log(ran)
}
