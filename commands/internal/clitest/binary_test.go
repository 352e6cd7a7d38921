package clitest_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
)

// TestReplayBinary runs a sample of the recordings with the program itself, as
// "ipsec spi" and by its link "ipsec_spi".
func TestReplayBinary(t *testing.T) {
	dir := t.TempDir()
	ipsec := filepath.Join(dir, "ipsec")
	build := exec.Command("go", "build", "-o", ipsec, "github.com/klips-go/ipsec/cmd/ipsec")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	proc, err := filepath.Abs("testdata/proc/full")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	ran := map[string]int{}
	for _, r := range readRecordings(t, "testdata/recorded.jsonl") {
		text, _ := json.Marshal(r.Args)
		if r.Exit != 0 || r.Env["KLIPS_PROC"] != "full" || len(r.Env) > 1 || len(r.Ioctls) > 0 ||
			strings.Contains(string(text), "gw") || len(r.Args) > 0 && len(r.Messages) == 0 {
			continue
		}
		if err := os.Symlink("ipsec", filepath.Join(dir, "ipsec_"+r.Tool)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		want := verdict{r.Impl, true, r.messageTexts(t), nil}
		d := &difference{recording: &r, want: want, asked: true}
		for _, argv := range [][]string{{ipsec, r.Tool}, {ipsec + "_" + r.Tool}} {
			k := newTape(t, &r)
			m.stack(k, "") // which puts the tape in
			cmd := exec.Command(argv[0], append(slices.Clone(argv[1:]), r.Args...)...)
			cmd.Env = append(os.Environ(), "IPSEC_STACK=klips", "IPSEC_PFKEY_SOCKET="+m.path, "IPSEC_PROC_NET="+proc)
			var errOut strings.Builder
			cmd.Stderr = &errOut
			out, err := cmd.Output()
			d.got, d.accepted = clitest.Result{Out: string(out), Err: errOut.String()}, err == nil
			if d.what = ""; d.accepted {
				d.what = compare(k.messages, want.messages)
			}
			if (err != nil || d.what != "") && reasonFor(d) >= 0 {
				continue
			}
			if err != nil || d.what != "" {
				t.Errorf("%s %q: %v; %s%s", filepath.Base(argv[0]), r.Args, err, errOut.String(), d.what)
			}
			if len(r.Args) == 0 && string(out) != r.Stdout {
				t.Errorf("%s printed %q, want %q", r.Tool, out, r.Stdout)
			}
			ran[r.Tool]++
		}
	}
	for tool := range apps {
		if tool != "tncfg" && ran[tool] < 4 {
			t.Errorf("%s ran %d times", tool, ran[tool])
		}
	}
	t.Log(ran)
}
