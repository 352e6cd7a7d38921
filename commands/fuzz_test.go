package commands

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/stacks"
)

// The keys of FuzzArgv. No other input contains their digits.
const (
	fuzzEncKey  = "0xfe7dc8ba9654e3a1fd0c8b2796e5a4f3"
	fuzzAuthKey = "0xc1b2a39485f6e7d8c9bacbdcedfe0f1e2d3c4b5a"
)

// words replace the bytes from 0x80 on in the input of FuzzArgv: one argument each,
// with the NUL after it.
var words = func() (l []string) {
	for _, s := range append(Names(), "help", "completion",
		"--said", "--af", "inet", "inet6", "--edst", "--dst", "--src", "--spi", "--proto", "esp", "--esp", "aes128-sha1", "--ah", "hmac-sha1-96", "--comp", "deflate", "--ip4", "--ip6",
		"--enckey", "--authkey", fuzzEncKey, fuzzAuthKey, fuzzEncKey[2:], "--replay_window", "64", "--life", "soft-packets=1,hard-bytes=2", "--natt", "nonesp", "--sport", "4500", "--dport",
		"--add", "--replace", "--addin", "--replacein", "--del", "--clear", "--eraf", "10.0.1.0/24", "10.0.2.0/24", "2001:db8::/32", "%drop", "%trap", "--transport-proto", "17",
		"tun0x100@192.0.2.2", "esp0x101@192.0.2.2", "esp0x102@192.0.2.2", "ah0x103@2001:db8::1", "192.0.2.1", "192.0.2.2", "0x102",
		"--attach", "--detach", "--create", "--delete", "--virtual", "ipsec0", "--physical", "eth0", "--set", "--unset", "--all", "--none", "tunnel",
		"--label", "x", "--debug", "--help", "--version", "--stack", "auto", "--up", "conn", "--json", "status", "set", "tos=0", "f", "-", "--dry-run", "--keep-going", "@-", "128", "--saref", "--dumpsaref", "--esn", "--seq", "--replay-seq",
	) {
		l = append(l, s+"\x00")
	}
	return l
}()

// spell converts the fuzzer's input to a command line.
func spell(input []byte) []string {
	var b strings.Builder
	for _, c := range input {
		if c < 0x80 || int(c-0x80) >= len(words) {
			b.WriteByte(c)
			continue
		}
		b.WriteString(words[c-0x80])
	}
	text := b.String()
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\x00"), "\x00")
}

// input is the inverse of spell, for seeds.
func input(line string) (b []byte) {
	for _, w := range strings.Fields(line) {
		if i := slices.Index(words, w+"\x00"); i >= 0 && 0x80+i <= 0xff {
			b = append(b, byte(0x80+i))
			continue
		}
		b = append(b, w+"\x00"...)
	}
	return b
}

// actsOnHost reports whether a command line can do more than use its stack: read or make
// a file of this system, start a process, or go on without an end.
func actsOnHost(args []string) bool {
	has := func(full string, arg string) bool {
		arg, _, _ = strings.Cut(strings.TrimLeft(arg, "-"), "=")
		return arg != "" && strings.HasPrefix(full, arg)
	}
	for _, a := range args {
		if strings.Contains(a, "@") && strings.Contains(a[strings.Index(a, "@"):], "/") || strings.HasPrefix(a, "--") && has("optionsfrom", a) {
			return true
		}
		switch {
		case slices.ContainsFunc(args, func(a string) bool { return strings.HasSuffix(a, "setup") }):
			for _, act := range []string{"start", "stop", "restart", "reload", "force-reload", "condrestart", "try-restart"} {
				if has(act, a) {
					return true
				}
			}
		case slices.ContainsFunc(args, func(a string) bool { return strings.HasSuffix(a, "pf_key") }):
			if strings.HasPrefix(a, "--") && (has("daemon", a) || has("dumpfile", a)) {
				return true
			}
		case strings.HasSuffix(a, "fingerprint"), strings.HasSuffix(a, "barf"), strings.HasSuffix(a, "mtu"), a == "new", a == "ipsec_new", a == "save", a == "ipsec_save", strings.HasSuffix(a, "import"):
			return true
		case a == "top", strings.HasSuffix(a, "_top"), a == "monitor", strings.HasSuffix(a, "_monitor"), a == "capture", strings.HasSuffix(a, "_capture"):
			return true
		case slices.ContainsFunc(args, func(a string) bool { return strings.HasSuffix(a, "metrics") }):
			if strings.HasPrefix(a, "--") && has("listen", a) {
				return true
			}
		case slices.ContainsFunc(args, func(a string) bool { return strings.HasSuffix(a, "look") || strings.HasSuffix(a, "why") }):
			if strings.HasPrefix(a, "--") && has("watch", a) {
				return true
			}
		case slices.ContainsFunc(args, func(a string) bool { return strings.HasSuffix(a, "genkey") || strings.HasSuffix(a, "export") }):
			if strings.HasPrefix(a, "-") && has("out", a) {
				return true
			}
		case slices.ContainsFunc(args, func(a string) bool { return strings.HasSuffix(a, "manual") || strings.HasSuffix(a, "batch") }):
			if strings.Contains(a, "/") && !strings.Contains(a, "/24") && !strings.Contains(a, "/32") {
				return true
			}
		}
	}
	return false
}

// A noClose is a stack that stays open.
type noClose struct{ *klipstest.Model }

func (noClose) Close() error { return nil }

// fuzzModel returns a stack with a tunnel.
func fuzzModel(tb testing.TB) *klipstest.Model {
	m := klipstest.NewModel(func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") },
		func(name string) (int, bool) { return 1500, name == "eth0" })
	ctx := context.Background()
	dst := netip.MustParseAddr("192.0.2.2")
	ids := []klips.SAID{{Dst: dst, SPI: 0x100, Proto: klips.ProtoTun}, {Dst: dst, SPI: 0x101, Proto: klips.ProtoESP}}
	route := klips.Selector{Src: netip.MustParsePrefix("10.0.1.0/24"), Dst: netip.MustParsePrefix("10.0.2.0/24")}
	for _, err := range []error{
		m.AddSA(ctx, &klips.SASpec{ID: ids[0], Src: netip.MustParseAddr("192.0.2.1")}),
		m.AddSA(ctx, &klips.SASpec{ID: ids[1], Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: make([]byte, 16), AuthKey: make([]byte, 20)}),
		m.Group(ctx, ids),
		m.SetEroute(ctx, klips.Eroute{Selector: route, ID: ids[0]}, klips.ErouteAdd),
		m.Attach(ctx, "ipsec0", "eth0"),
	} {
		if err != nil {
			tb.Fatal(err)
		}
	}
	return m
}

// FuzzArgv runs whole command lines on a stack in memory. None may panic. Messages have
// only printable characters. A command that fails has changed nothing. The output never
// contains eight digits in a row of a key from the arguments.
func FuzzArgv(f *testing.F) {
	for _, line := range []string{
		"spi --said esp0x102@192.0.2.2 --src 192.0.2.1 --esp aes128-sha1 --enckey " + fuzzEncKey + " --authkey " + fuzzAuthKey,
		"spi --af inet --edst 192.0.2.2 --spi 0x102 --proto esp --src 192.0.2.1 --esp aes128-sha1 --enckey @- --authkey " + fuzzAuthKey + " --replay_window 64 --life soft-packets=1,hard-bytes=2",
		"spi --said ah0x103@2001:db8::1 --ah hmac-sha1-96 --authkey " + fuzzAuthKey, "spi --del --said esp0x101@192.0.2.2", "spi --clear", "spi",
		"spigrp --said tun0x100@192.0.2.2 esp0x102@192.0.2.2", "spigrp inet 192.0.2.2 0x100 tun inet 192.0.2.2 0x101 esp", "spigrp --said esp0x101@192.0.2.2",
		"eroute --add --src 10.0.1.0/24 --dst 10.0.2.0/24 --said %trap", "eroute --replace --eraf inet --src 10.0.1.0/24 --dst 10.0.2.0/24 --af inet --edst 192.0.2.2 --spi 0x102 --proto esp", "eroute --clear",
		"tncfg --attach --virtual ipsec0 --physical eth0", "tncfg --clear", "klipsdebug --set tunnel", "klipsdebug --all", "look --json", "metrics", "spigrp --debug --json", "tncfg -json", "manual --up conn", "batch --dry-run -", "batch f",
		"pf_key --esp", "setup status --json", "setup set tos=0", "klipsd", "natt 4500", "version", "ranbits 128", "genkey --enc aes128-sha1", "algs aes --json", "selftest", "verify", "showdefaults", "help spi", "completion x", "--stack auto spi", "ipsec_spi --help",
	} {
		f.Add(input(line))
	}
	dir := f.TempDir()
	// The run directory is a file, so that no daemon can start there.
	environ := map[string]string{"IPSEC_RUNDIR": "/dev/null/none"}
	if err := os.WriteFile(dir+"/f", []byte("spi --said esp0x102@192.0.2.2 --enckey "+fuzzEncKey+"\n"), 0o600); err != nil {
		f.Fatal(err)
	}
	want := fuzzModel(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		args := spell(in)
		if len(in) > 64 || actsOnHost(args) {
			t.Skip("too long, or not for a test")
		}
		t.Chdir(dir)
		if i := slices.Index(args, "manual"); i >= 0 {
			args = slices.Insert(args, i+1, "--config", "none")
		}
		model := fuzzModel(t)
		var out, errOut bytes.Buffer
		p := &program{
			in: strings.NewReader(fuzzEncKey + "\n"), out: &out, err: &errOut,
			getenv:   func(name string) string { return environ[name] },
			open:     func(context.Context, stacks.Config) (klips.Stack, error) { return serial.New(noClose{model}), nil },
			resolver: clitest.Names,
		}
		status := p.main(append([]string{"ipsec"}, args...))
		printed := out.String() + errOut.String()
		if i := strings.IndexFunc(errOut.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Fatalf("%q: character %q in a message: %q", args, errOut.String()[i], &errOut)
		}
		if status != 0 && errOut.Len() == 0 && !slices.Contains(args, "setup") {
			t.Fatalf("%q: status %d and no message", args, status)
		}
		for _, key := range []string{fuzzEncKey, fuzzAuthKey} {
			for i := 2; i+8 <= len(key); i++ {
				if strings.Contains(printed, key[i:i+8]) {
					t.Fatalf("%q: %q of a key is printed:\n%s", args, key[i:i+8], printed)
				}
			}
		}
		if status != 0 && !slices.Contains(args, "batch") {
			if d, err := klipstest.SameTables(t.Context(), want, model); err != nil || d != "" {
				t.Fatalf("%q: failed with %sbut changed the tables: %v\n%s", args, &errOut, err, d)
			}
		}
	})
}
