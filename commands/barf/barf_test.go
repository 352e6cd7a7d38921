package barf

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/commands/look"
	"github.com/klips-go/ipsec/commands/manual"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/commands/version"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/manpages"
)

// A fakeMachine has files, and programs that print their command line.
type fakeMachine struct{ files map[string]string }

func (fakeMachine) now() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }
func (fakeMachine) host() string   { return "gw1" }
func (fakeMachine) kernel() string { return "Linux 6.1 x86_64" }
func (fakeMachine) addresses() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
}
func (fakeMachine) program(_ context.Context, line string) string { return "what " + line + " prints" }

func (m fakeMachine) read(path string) ([]byte, error) {
	if text, ok := m.files[path]; ok {
		return []byte(text), nil
	}
	return nil, fs.ErrNotExist
}

func (m fakeMachine) glob(pattern string) (l []string) {
	for path := range m.files {
		if ok, _ := filepath.Match(pattern, path); ok {
			l = append(l, path)
		}
	}
	return l
}

// entry returns an applet that prints its arguments, or returns an error.
func entry(name string, err error) cli.Entry {
	return cli.Entry{Name: name, App: func() *cli.App {
		return &cli.App{Name: name, Parse: func(_ *cli.Env, args []string) (cli.Command, error) {
			return cli.Func(func(_ context.Context, env *cli.Env) error {
				if name == "status" && len(args) > 0 {
					epoch, ago := uint32(3), int64(7)
					return output.Print(env, output.StatusList{Head: output.NewHead("user"), Connections: []output.Connection{
						{Name: "net", State: "up", File: "/etc/ipsec.conf", Epoch: &epoch, SentSeconds: &ago, Source: "10.1.0.0/16", Destination: "10.2.0.0/16"}}})
				}
				fmt.Fprintf(env.Out, "%s %q\n", env.Name, args)
				return err
			}), nil
		}}
	}}
}

func fakes() (l []cli.Entry) {
	for _, name := range []string{"version", "verify", "showdefaults", "setup", "status", "look", "why", "eroute", "spigrp", "spi", "klipsdebug", "fingerprint"} {
		l = append(l, entry(name, nil))
	}
	return append(l, entry("tncfg", errors.New("devices: not permitted")))
}

func files() map[string]string {
	return map[string]string{
		"/proc/sys/net/ipv4/ip_forward": "1\n", "/proc/sys/net/ipv4/conf/eth0/rp_filter": "2\n",
		"/run/ipsec/klipsd.log": strings.Repeat("an older line\n", 300) + "the newest line\n",
		"/etc/net.conf":         "conn net\n\tmasterkey=@net.key\n\tleft=192.0.2.1 # us\n",
	}
}

var environment = map[string]string{"IPSEC_CONF": "/etc/net.conf", "IPSEC_RUNDIR": "/run/ipsec"}

// full returns a world with a stack that has records in each table, and a right to its keys.
func full() clitest.World {
	return clitest.World{Environ: environment, Wrap: func(*clitest.Stack) klips.Stack { return keyed{Stack: serial.New(&clitest.Full{})} }}
}

// A keyed is a stack that gives keys.
type keyed struct {
	klips.Stack
	err error
}

func (k keyed) Snapshot(ctx context.Context, w klips.Want) (*klips.Snapshot, error) {
	t, err := k.Stack.Snapshot(ctx, w)
	if err == nil && w.Foreign {
		t.Foreign = []string{"policy out 10.0.0.0/8 -> 10.9.0.0/16"}
	}
	return t, err
}

func (k keyed) ReadKeys(_ context.Context, id klips.SAID) (klips.Keys, error) {
	if k.err != nil {
		return klips.Keys{}, k.err
	}
	return klips.Keys{EncKey: bytes.Repeat([]byte{byte(id.SPI)}, 16), AuthKey: bytes.Repeat([]byte{byte(id.SPI)}, 20)}, nil
}

// TestGolden: the text with all sections, and the JSON, for a stack with records in each table
// and without a stack.
func TestGolden(t *testing.T) {
	none := clitest.World{Environ: environment, StackErr: errors.New("none here")}
	for name, w := range map[string]clitest.World{"full": full(), "none": none} {
		r := clitest.Run(app(fakes(), fakeMachine{files()}), w)
		if r.Status != 0 || r.Err != "" {
			t.Errorf("%s: status %d, %s", name, r.Status, r.Err)
		}
		text, object, found := strings.Cut(r.Out, "\n==== json ====\n")
		if !found {
			t.Fatalf("%s: there is no section json", name)
		}
		clitest.Golden(t, name+".txt", text)
		clitest.GoldenJSON(t, "barf", name, object)
		if r := clitest.Run(app(fakes(), fakeMachine{files()}), w, "--json"); r.Out != object {
			t.Errorf("%s: --json prints\n%s, want\n%s", name, r.Out, object)
		}
	}
}

// TestFingerprints: there is a check for each key, which depends on the SAID. Errors and keys
// beyond the limit are named.
func TestFingerprints(t *testing.T) {
	w := full()
	var list output.BarfList
	r := clitest.Run(app(fakes(), fakeMachine{files()}), w, "--json")
	if err := json.Unmarshal([]byte(r.Out), &list); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range list.Ends[0].KeyFingerprints {
		seen[f.Fingerprint] = true
	}
	if n := len(seen); n < 8 || n != len(list.Ends[0].KeyFingerprints) {
		t.Errorf("%d checks, %d different ones", len(list.Ends[0].KeyFingerprints), n)
	}
	w.Wrap = func(*clitest.Stack) klips.Stack {
		return keyed{serial.New(&clitest.Full{}), &klips.OpError{Op: "get keys", Err: fs.ErrPermission}}
	}
	r = clitest.Run(app(fakes(), fakeMachine{files()}), w, "--json")
	if !strings.Contains(r.Out, "checks of keys: ") || !strings.Contains(r.Out, `"key_fingerprints": []`) {
		t.Errorf("without the right to keys: %s", r.Out)
	}
}

// TestFiles: the text and the archive are in files that only their owner can read, and an
// existing file is left alone.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	text, archive := filepath.Join(dir, "barf.txt"), filepath.Join(dir, "barf.tar")
	for _, args := range [][]string{{"--out", text}, {"--tar", archive}} {
		r := clitest.Run(app(fakes(), fakeMachine{files()}), full(), args...)
		info, err := os.Stat(args[1])
		if r.Status != 0 || r.Out != "" || err != nil || info.Mode() != 0o600 {
			t.Errorf("%q: status %d, %q, %v, %v", args, r.Status, r.Err, info, err)
		}
		if r := clitest.Run(app(fakes(), fakeMachine{files()}), full(), args...); r.Status != cli.ExitFailed || !strings.Contains(r.Err, "there is such a file") {
			t.Errorf("%q again: status %d, %q", args, r.Status, r.Err)
		}
	}
	want := clitest.Run(app(fakes(), fakeMachine{files()}), full()).Out
	if got, err := os.ReadFile(text); err != nil || string(got) != want {
		t.Errorf("the file has other text than standard output, %v", err)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil || h.Mode != 0o600 || !strings.Contains(want, strings.TrimSuffix(string(b), "\n")) {
			t.Errorf("%s: mode %o, %v, or its text is not in the other form", h.Name, h.Mode, err)
		}
		names = append(names, h.Name)
		if h.Name == "barf/barf.json" {
			if _, err := manpages.ReadJSON("barf", b); err != nil {
				t.Error(err)
			}
		}
	}
	clitest.Golden(t, "archive.txt", strings.Join(names, "\n")+"\n")
}

func TestRefused(t *testing.T) {
	for _, line := range []string{"--out a --tar b", "--json --out a", "--tar=", "now"} {
		r := clitest.Run(app(fakes(), fakeMachine{}), full(), strings.Fields(line)...)
		if r.Status != cli.ExitUsage || r.Opened || r.Out != "" {
			t.Errorf("barf %s: status %d, opened %v, %q", line, r.Status, r.Opened, r.Err)
		}
	}
}

// TestNoKeys: keys stand wherever they can, and none is in the text, in no form: those of SAs,
// of files in all notations, of key files and in a log.
func TestNoKeys(t *testing.T) {
	dir := t.TempDir()
	keys := map[string][]byte{}
	key := func(name string, size int) []byte {
		k := make([]byte, size)
		for i := range k {
			k[i] = byte(len(name)*31 + i*7 + len(keys)*53)
		}
		copy(k, name)
		keys[name] = k
		return k
	}
	hexed := func(name string, size int) string { return "0x" + hex.EncodeToString(key(name, size)) }
	grouped := func(name string) string {
		h := hex.EncodeToString(key(name, 16))
		return "0x" + h[:8] + "_" + h[8:16] + "_" + h[16:24] + "_" + h[24:]
	}
	text := "config setup\n\tinterfaces=\"ipsec0=eth0\"\n" +
		"conn inline\n\tleft=192.0.2.1\n\tright=192.0.2.2\n\tspibase=0x200\n\tesp=aes128-sha1\n" +
		"\tleftespenckey=" + hexed("hexed", 16) + "\n\tespenckey = \"" + grouped("grouped") + "\" # left\n" +
		"\tespauthkey=0s" + base64.StdEncoding.EncodeToString(key("base64", 20)) + "\n" +
		"\tahkey=0t" + string(append([]byte("thetextkey"), "isnotshown"...)) + "\n" +
		"\tx-oldkey=plainwords\n\t# the former key was " + hexed("comment", 16) + "\n" +
		"\tleftupdown=\"/bin/up --key=" + hexed("command", 16) + "\"\n" +
		"\tunknown=" + hexed("elsewhere", 16) + "\n" +
		"conn master\n\tleft=192.0.2.1\n\tright=192.0.2.3\n\tspibase=0x300\n\tesp=aes128-gcm\n\tmasterkey=" + hexed("master", 32) + "\n" +
		"conn file\n\tleft=192.0.2.1\n\tright=192.0.2.4\n\tspibase=0x400\n\tesp=aes128-gcm\n\tmasterkey=@file.key\n"
	keys["text"], keys["words"] = []byte("thetextkeyisnotshown"), []byte("plainwords")
	rundir := filepath.Join(dir, "run")
	for name, content := range map[string]string{
		"net.conf": text, "file.key": hexed("file", 32) + "\n", "run/klipsd.log": "refused " + hexed("logged", 16) + "\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	enc, auth := key("SA encryption", 16), key("SA authentication", 20)
	entries := []cli.Entry{
		{Name: "version", App: version.App}, {Name: "showdefaults", App: manual.ShowDefaults}, {Name: "status", App: manual.Status},
		{Name: "look", App: look.App}, {Name: "eroute", App: eroute.App}, {Name: "spigrp", App: spigrp.App}, {Name: "spi", App: spi.App},
		{Name: "tncfg", App: tncfg.App}, {Name: "klipsdebug", App: klipsdebug.App}, {Name: "fingerprint", App: manual.Fingerprint},
	}
	w := clitest.World{Environ: map[string]string{"IPSEC_CONFS": dir, "IPSEC_RUNDIR": rundir}, Wrap: func(*clitest.Stack) klips.Stack {
		return oneSA{serial.New(&clitest.Stack{}), klips.Keys{EncKey: bytes.Clone(enc), AuthKey: bytes.Clone(auth)}}
	}}
	archive := filepath.Join(dir, "barf.tar")
	var outputs []string
	for _, args := range [][]string{nil, {"--json"}, {"--tar", archive}} {
		r := clitest.Run(app(entries, quiet{}), w, args...)
		if r.Status != 0 {
			t.Fatalf("%q: status %d, %s", args, r.Status, r.Err)
		}
		outputs = append(outputs, r.Out, r.Err)
	}
	b, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	outputs = append(outputs, string(b))
	for _, want := range []string{"conn inline", "it is a key)", "it may be a key)", "masterkey=@file.key", "master masterkey: ", "==== log of the daemon ====", "esp0x102@192.0.2.2"} {
		if !strings.Contains(outputs[0], want) {
			t.Errorf("the text lacks %q:\n%s", want, outputs[0])
		}
	}
	for name, k := range keys {
		h := hex.EncodeToString(k)
		for _, form := range []string{string(k), h, strings.ToUpper(h), h[:16], h[len(h)-16:], base64.StdEncoding.EncodeToString(k), base64.RawURLEncoding.EncodeToString(k)} {
			for _, text := range outputs {
				plain := strings.NewReplacer("_", "", ":", "", " ", "").Replace(text)
				if strings.Contains(text, form) || strings.Contains(plain, form) {
					t.Errorf("the key %q is there as %q", name, form)
				}
			}
		}
	}
}

// quiet is this machine without other programs.
type quiet struct{ system }

func (quiet) program(context.Context, string) string { return "" }

// oneSA is a stack with one SA, which gives its keys.
type oneSA struct {
	klips.Stack
	keys klips.Keys
}

func (s oneSA) ReadKeys(context.Context, klips.SAID) (klips.Keys, error) { return s.keys, nil }

func (s oneSA) Snapshot(ctx context.Context, w klips.Want) (*klips.Snapshot, error) {
	t, err := s.Stack.Snapshot(ctx, w)
	if err == nil && w.SAs {
		t.SAs = []klips.SA{{ID: klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x102, Proto: klips.ProtoESP}, State: klips.Mature,
			Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKeyBits: 128, AuthKeyBits: 160, IV: make([]byte, 16)}}
	}
	return t, err
}

// FuzzWithoutKeys: whatever a file has, its lines stay lines, and the value of a parameter for
// keys is not shown.
func FuzzWithoutKeys(f *testing.F) {
	f.Add("conn x\n\tahkey=0x0123456789abcdef", "0123456789abcdef")
	f.Add("\tmasterkey=\"@net.key\" # where", "")
	f.Fuzz(func(t *testing.T, text, secret string) {
		got := withoutKeys(text)
		if n, m := strings.Count(got, "\n"), strings.Count(strings.TrimSuffix(text, "\n"), "\n")+1; text != "" && n != m {
			t.Errorf("%q has %d lines, and becomes %d: %q", text, m, n, got)
		}
		if strings.ContainsAny(secret, "@#=\n\r \t\"0123456789 charactersnotshown:itisakey(,)") || secret == "" {
			return
		}
		if got := withoutKeys("ahkey=" + secret); strings.Contains(got, secret) {
			t.Errorf("the key %q is there: %q", secret, got)
		}
	})
}

// Both outputs of another program are kept, up to a limit. Run with the race detector.
func TestProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "both")
	script := "#!/bin/sh\ni=0; while [ $i -lt 2000 ]; do echo out; i=$((i+1)); done & i=0; while [ $i -lt 2000 ]; do echo err >&2; i=$((i+1)); done; wait\n"
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	got := system{}.program(t.Context(), file)
	if out, errs := strings.Count(got, "out\n"), strings.Count(got, "err\n"); out != 2000 || errs != 2000 {
		t.Errorf("%d and %d lines, want 2000 of each", out, errs)
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\nhead -c 2000000 /dev/zero; head -c 2000000 /dev/zero >&2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if n := len(system{}.program(t.Context(), file)); n != programSize {
		t.Errorf("%d bytes, want %d", n, programSize)
	}
}
