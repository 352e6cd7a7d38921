package importer

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/render/rendertest"
	"github.com/klips-go/ipsec/klips"
)

const text = `xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x500 mode tunnel extra-flag dont-encap-dscp enc "cbc(aes)" 0xaa0102030405060708090a0b0c0d0e0f auth-trunc "hmac(sha1)" 0xbb0102030405060708090a0b0c0d0e0f10111213 96
xfrm policy add src 10.0.1.0/24 dst 10.0.2.0/24 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel
`

func run(w clitest.World, in, line string) clitest.Result {
	if in != "" {
		w.In = strings.NewReader(in)
	}
	return clitest.Run(App(), w, strings.Fields(line)...)
}

// TestUsage: a wrong command line opens no stack and reads nothing.
func TestUsage(t *testing.T) {
	for line, want := range map[string]string{
		"":                            "FORMAT is missing: one of ip-xfrm, setkey, ipsecctl",
		"racoon -":                    "no format racoon; there are ip-xfrm, setkey, ipsecctl",
		"setkye -":                    "no format setkye; did you mean setkey?",
		"setkey":                      "FILE is missing",
		"setkey a b":                  "3 arguments where a format and one file are wanted",
		"setkey --apply --out x -":    "--out does not go with --apply",
		"setkey --force -":            "--force is for --out FILE",
		"setkey --out= -":             "--out: there is no file name",
		"setkey --append x":           "--append",
		"setkey add 1 2 esp 5 0x0102": "arguments where a format and one file are wanted",
	} {
		if r := run(clitest.World{}, "", line); r.Status != 2 || r.Opened || r.Out != "" || !strings.Contains(r.Err, want) || strings.Contains(r.Err, "0x0102") {
			t.Errorf("import %s: status %d, %q, want %q", line, r.Status, r.Err, want)
		}
	}
}

// TestPrint: the commands make what --apply makes.
func TestPrint(t *testing.T) {
	r := run(clitest.World{}, text, "ip-xfrm -")
	if r.Status != 0 || r.Err != "" || r.Opened {
		t.Fatalf("status %d, %s", r.Status, r.Err)
	}
	printed, applied := rendertest.NewHost("192.0.2.1"), rendertest.NewHost("192.0.2.1")
	printed.Do(t, r.Out)
	if r := run(applied.World(), text, "ip-xfrm --apply -"); r.Status != 0 || r.Out+r.Err != "" {
		t.Fatalf("status %d, %s%s", r.Status, r.Out, r.Err)
	}
	file := filepath.Join(t.TempDir(), "x.batch")
	if r := run(clitest.World{}, text, "ip-xfrm --out "+file+" -"); r.Status != 0 || r.Out+r.Err != "" {
		t.Fatalf("status %d, %s%s", r.Status, r.Out, r.Err)
	}
	written, err := os.ReadFile(file)
	if info, _ := os.Stat(file); err != nil || info.Mode() != 0o600 || string(written) != r.Out {
		t.Errorf("%v, %v\n%s", err, info, written)
	}
	if r := run(clitest.World{}, text, "ip-xfrm --out "+file+" -"); r.Status != 1 || !strings.Contains(r.Err, "--force") {
		t.Errorf("status %d, %s", r.Status, r.Err)
	}
	clean := func(h *rendertest.Host) string {
		c := h.Config(t)
		var b strings.Builder
		for _, change := range c.Changes() {
			b.WriteString(change.String() + "\n")
		}
		for _, sa := range c.SAs() {
			b.Write(append(sa.EncKey, sa.AuthKey...))
		}
		return b.String()
	}
	if d := cmp.Diff(clean(printed), clean(applied)); d != "" || len(applied.Keys) != 2 {
		t.Errorf("(-printed +applied)\n%s", d)
	}
}

// TestErrors: nothing is printed or made after an error.
func TestErrors(t *testing.T) {
	twice := rendertest.NewHost("192.0.2.1")
	if r := run(twice.World(), text, "ip-xfrm --apply -"); r.Status != 0 {
		t.Fatal(r.Err)
	}
	more := text + "xfrm state add src 192.0.2.1 dst 192.0.2.9 proto ah spi 0x501 auth-trunc 'hmac(md5)' 0xbb0102030405060708090a0b0c0d0e0f 96\n"
	for _, tt := range []struct {
		w              clitest.World
		in, line, want string
	}{
		{clitest.World{}, "", "ip-xfrm -", "there is no standard input"},
		{clitest.World{}, "", "ip-xfrm /no/such/file", "/no/such/file"},
		{clitest.World{}, "# nothing\n", "ip-xfrm -", "standard input: it has neither SAs nor policies"},
		{clitest.World{}, text + "xfrm monitor now\n", "ip-xfrm -", "standard input: line 3: ip xfrm … now cannot be read"},
		{clitest.World{StackErr: syscall.EACCES}, text, "ip-xfrm --apply -", "permission denied"},
		{twice.World(), more, "ip-xfrm --apply -", "nothing is made: "},
	} {
		if r := run(tt.w, tt.in, tt.line); r.Status != 1 || r.Out != "" || !strings.Contains(r.Err, tt.want) {
			t.Errorf("import %s: status %d, %s%s, want %s", tt.line, r.Status, r.Out, r.Err, tt.want)
		}
	}
	list, err := klips.ReadSAs(t.Context(), twice)
	if err != nil || len(list) != 2 {
		t.Errorf("%d SAs after a refused import, %v", len(list), err)
	}
}

// TestLeft: what is left out is named, and the status is 1.
func TestLeft(t *testing.T) {
	r := run(clitest.World{}, text+"xfrm policy add src 10.9.0.0/24 dst 10.0.1.0/24 dir in action block\n", "ip-xfrm -")
	if r.Status != 1 || !strings.Contains(r.Out, "spi --said esp0x500@192.0.2.2") || !strings.Contains(r.Err, "note: 10.9.0.0/24 -> 10.0.1.0/24 is left out: an inbound policy that passes or drops") {
		t.Errorf("status %d, %s%s", r.Status, r.Out, r.Err)
	}
}
