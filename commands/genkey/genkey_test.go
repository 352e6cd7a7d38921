package genkey

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// TestLengths: each key fits its algorithm, by the check that ipsec spi makes.
func TestLengths(t *testing.T) {
	key := func(args ...string) []byte {
		t.Helper()
		r := clitest.Run(App(), clitest.World{}, args...)
		if r.Status == cli.ExitUsage {
			return nil
		}
		k, err := syntax.ParseKey(strings.TrimSuffix(r.Out, "\n"))
		if r.Status != 0 || r.Err != "" || r.Opened || err != nil {
			t.Errorf("genkey %v: status %d, %q, %q, %v", args, r.Status, r.Out, r.Err, err)
		}
		return k
	}
	for _, a := range append(syntax.ESPNames(), syntax.AlgName{Name: "aes-sha1"}, syntax.AlgName{Name: "aes-gcm"}) {
		tr, _, err := syntax.ParseESP(a.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := syntax.CheckKeys(klips.SAID{Proto: klips.ProtoESP}, tr, key("--auth", a.Name), key("--enc", a.Name)); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
	}
	for _, a := range syntax.AHNames() {
		auth, err := syntax.ParseAH(a.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := syntax.CheckKeys(klips.SAID{Proto: klips.ProtoAH}, klips.Transform{Auth: auth}, key(a.Name), nil); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
	}
	for args, want := range map[string]int{
		"aes128-gcm": 20, "aes-gcm": 36, "aes128-none": 16, "3des": 24, "null-sha2_256": 32, "sha1": 20,
		"--enc aes192-sha1": 24, "--auth aes192-sha1": 20, "master": 32,
	} {
		if got := key(strings.Fields(args)...); len(got) != want {
			t.Errorf("genkey %s: %d bytes, want %d", args, len(got), want)
		}
	}
	if a, b := key("master"), key("master"); string(a) == string(b) {
		t.Error("two calls made the same key")
	}
}

func TestErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	for args, want := range map[string]string{
		"":                           "ALG is missing: the algorithm that the key is for, or master",
		"aes128-sha1":                "aes128-sha1 has two keys; give --enc for the encryption key, --auth for the other",
		"--enc --auth aes128-sha1":   "--auth after --enc; one key at a time",
		"--enc sha1":                 "--enc: sha1 has no encryption key",
		"--auth aes128-gcm":          "--auth: aes128-gcm has no separate authentication key",
		"--enc master":               "--enc does not go with master, from which all keys are derived",
		"aes128":                     "aes128: no authentication named; write aes128-sha2_256, or aes128-none to do without",
		"rot13":                      "rot13: unknown cipher; there are ",
		"hmac-rot13":                 "hmac-rot13: unknown authentication algorithm; there are ",
		"0xfeedfacefeedface":         "(18 characters, not shown: it may be a key): unknown cipher",
		"master 32":                  "unexpected argument number 2",
		"master --out":               "option --out needs a value",
		"master --out=":              "--out: there is no file name",
		"--bits 128 --out x aes-gcm": "unknown option --bits",
	} {
		r := clitest.Run(App(), clitest.World{}, strings.Fields(args)...)
		if r.Status != cli.ExitUsage || r.Out != "" || !strings.HasPrefix(r.Err, "ipsec genkey: "+want) {
			t.Errorf("genkey %s: status %d, %q, %q, want %q", args, r.Status, r.Out, r.Err, want)
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("refused calls leave %v, %v", left, err)
	}
}

// TestOut: the new file has mode 0600 whatever the umask, and no file is overwritten.
func TestOut(t *testing.T) {
	name := filepath.Join(t.TempDir(), "net.key")
	r := clitest.Run(App(), clitest.World{}, "--out", name, "master")
	info, err := os.Stat(name)
	if r.Status != 0 || r.Out != "" || r.Err != "" || err != nil || info.Mode() != 0o600 {
		t.Fatalf("--out: status %d, %q, %q, %v, %v", r.Status, r.Out, r.Err, info, err)
	}
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	r = clitest.Run(App(), clitest.World{}, "--out", name, "aes128-gcm")
	after, err := os.ReadFile(name)
	if want := "ipsec genkey: " + name + ": there is such a file, which is not overwritten; choose another name\n"; r.Status != 1 || r.Err != want || string(after) != string(before) || err != nil {
		t.Errorf("a second time: status %d, %q, want %q; %v", r.Status, r.Err, want, err)
	}
	r = clitest.Run(App(), clitest.World{}, "--out", filepath.Join(name, "x"), "master")
	if r.Status != 1 || !strings.HasPrefix(r.Err, "ipsec genkey: "+name+"/x: ") {
		t.Errorf("no folder: status %d, %q", r.Status, r.Err)
	}
}
