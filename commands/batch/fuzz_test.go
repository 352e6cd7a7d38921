package batch

import (
	"bytes"
	"context"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
)

// pieces replace the bytes from 0x80 on in a fuzzer's input, so that some inputs are
// valid commands.
var pieces = []string{
	tunSA, espSA, group, route, bad, "spi --clear\n", "eroute --clear\n", "spi --del --said tun0x100@192.0.2.2\n",
	"tncfg --attach --virtual ipsec0 --physical eth0\n", "tncfg --detach --virtual ipsec0\n", "klipsdebug --all\n", "klipsdebug --none\n",
	"eroute --del --src 10.0.1.0/24 --dst 10.0.2.0/24\n", "eroute --replace --src 10.0.1.0/24 --dst 10.0.2.0/24 --said %drop\n",
	"spi --said comp0x102@192.0.2.2 --src 192.0.2.1 --comp deflate\n", "spigrp --said tun0x100@192.0.2.2 comp0x102@192.0.2.2 esp0x101@192.0.2.2\n",
	"look\n", "version\n", "ranbits 64\n", "spi\n", "eroute\n", "\\\n", "ipsec ",
	"spi ", "spigrp ", "eroute ", "tncfg ", "--add ", "--del ", "--replace ", "--addin ", "--clear ", "--said ", "--src ", "--dst ", "--help ", "--debug ", "--label ",
	"tun0x100@192.0.2.2 ", "esp0x101@192.0.2.2 ", "ah0x103@2001:db8::1 ", "10.0.1.0/24 ", "::/0 ", "%hold ", "--life ", "soft-packets=1 ",
	"--enckey ", "--authkey ", encKey + " ", authKey + " ", "--ah hmac-sha1-96 ", "--replay_window ", "# ", "'", "\"",
}

func spell(input []byte) string {
	var b strings.Builder
	for _, c := range input {
		if c < 0x80 {
			b.WriteByte(c)
			continue
		}
		b.WriteString(pieces[int(c-0x80)%len(pieces)])
	}
	return b.String()
}

// readsFiles reports whether a command would read a file of this system.
func readsFiles(words []string) bool {
	for _, w := range words {
		_, file, at := strings.Cut(w, "@")
		if at && strings.Contains(file, "/") || strings.HasPrefix(w, "--o") {
			return true
		}
	}
	return false
}

// runOn runs an applet on a stack of the test.
func runOn(s klips.Stack, app *cli.App, args ...string) clitest.Result {
	return clitest.Run(app, clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return kept{s} }}, args...)
}

// FuzzFile runs whole files. A dry run finds the same errors as the run, and changes
// nothing. A file makes the same tables as its commands one by one, or none. Each error
// names its line.
func FuzzFile(f *testing.F) {
	for _, s := range []string{
		"\x80\x81\x82\x83", "\x80\x81\x82\x83\x8d\x8c\x87\x86", "\x80\x80\x84\x81", "\x88\x8a\x93\x94\x90\x91\x92\x8b\x89\x85",
		"\x80\x8e\x81\x8f\x83", "spi --said\\\n tun0x100@192.0.2.2\n'", "# x\r\n\x97\x9f\n", "\x80\x00\n\x81",
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 128 {
			t.Skip("longer than it need be")
		}
		text := spell(input)
		list, err := newReader(strings.NewReader(text)).all(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if readsFiles(c.words) {
				t.Skip("would read files of this system")
			}
		}
		t.Chdir(dir)
		if err := os.WriteFile("f", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}

		run := func(args ...string) (clitest.Result, *klipstest.Model) {
			m := newModel()
			r := runOn(serial.New(m), app(), args...)
			checkLines(t, text, r)
			return r, m
		}
		dry, rehearsed := run("--dry-run", "f")
		same(t, text, "after a dry run", newModel(), rehearsed)
		whole, all := run("f")
		going, kept := run("--keep-going", "f")
		one, failed := newModel(), 0
		for _, c := range list {
			if !runOne(t, serial.New(one), c) {
				failed++
			}
		}
		same(t, text, "with --keep-going", one, kept)
		if failed == 0 {
			same(t, text, "at once", one, all)
		} else {
			same(t, text, "after a refusal", newModel(), all)
		}
		for _, r := range []clitest.Result{dry, whole, going} {
			if (failed == 0) != (r.Status == cli.ExitOK) {
				t.Fatalf("%q: %d commands fail by themselves, but status is %d: %s", text, failed, r.Status, r.Err)
			}
		}
	})
}

// runOne runs one command alone.
func runOne(t *testing.T, s klips.Stack, c command) (ok bool) {
	t.Helper()
	x := newExecutor(&cli.Env{Out: io.Discard, Err: io.Discard}, "f", &request{entries: Entries})
	app, args, err := x.find(c)
	return err == nil && runOn(s, app, args...).Status == cli.ExitOK
}

func same(t *testing.T, text, how string, want, got serial.Reader) {
	t.Helper()
	if d, err := klipstest.SameTables(context.Background(), want, got); err != nil || d != "" {
		t.Fatalf("%q: %s: %v (-one by one +file)\n%s", text, how, err, d)
	}
}

var place = regexp.MustCompile(`^ipsec batch: f:([0-9]+): .`)

// checkLines checks that each message is a note or names a line of the file, and that
// no message shows a key.
func checkLines(t *testing.T, text string, r clitest.Result) {
	t.Helper()
	last := 1 + strings.Count(text, "\n")
	for line := range strings.Lines(r.Err) {
		m := place.FindStringSubmatch(line)
		n := 0
		if m != nil {
			n, _ = strconv.Atoi(m[1])
		}
		if !strings.HasPrefix(line, "ipsec batch: note: ") && (n < 1 || n > last) || strings.ContainsAny(line, "\r\x00\x1b") {
			t.Fatalf("%q: message %q names no line of the file", text, line)
		}
	}
	if r.Status == cli.ExitOK && bytes.Contains([]byte(r.Err), []byte("failed")) || r.Status != cli.ExitOK && r.Err == "" {
		t.Fatalf("%q: status %d with %q", text, r.Status, r.Err)
	}
	for _, key := range []string{encKey, authKey} {
		for i := 2; i+8 <= len(key); i++ {
			if strings.Contains(r.Out+r.Err, key[i:i+8]) {
				t.Fatalf("%q: %q of a key is in the output\n%s%s", text, key[i:i+8], r.Out, r.Err)
			}
		}
	}
}
