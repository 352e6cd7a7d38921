package clitest

import (
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
)

// FuzzCommandLine fuzzes an applet with whole command lines; the input has one argument
// per line. It checks that the applet does not panic, that an error is one line with
// the applet's name, that a wrong command line opens no stack, that an opened stack is
// closed, and that no message contains the key from standard input.
func FuzzCommandLine(f *testing.F, app func() *cli.App, seeds ...string) {
	for _, s := range seeds {
		f.Add(strings.ReplaceAll(s, " ", "\n"))
	}
	dir := f.TempDir()
	const key = "0x00112233445566778899aabbccddeeff0011223344556677"
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "/") && (strings.Contains(text, "@") || strings.Contains(text, "--o")) {
			t.Skip("would read files of this system")
		}
		t.Chdir(dir)
		stack := &Stack{Caps: map[klips.Capability]bool{klips.CapAEAD: len(text)%2 == 0, klips.CapLargeWindow: true}}
		args := strings.Split(text, "\n")
		r := Run(app(), World{In: strings.NewReader(key + "\n"), Stack: stack, Resolver: Names}, args...)
		if r.Status != cli.ExitOK {
			lines := strings.Split(strings.TrimSuffix(r.Err, "\n"), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(last, ": ") || strings.ContainsAny(last, "\r\x00\x1b") {
				t.Fatalf("%q: status %d with standard error %q", args, r.Status, r.Err)
			}
		}
		if r.Status == cli.ExitUsage && r.Opened {
			t.Fatalf("%q: refused (%s) but the stack was opened", args, r.Err)
		}
		if r.Opened && stack.Closed != 1 {
			t.Fatalf("%q: the stack was closed %d times", args, stack.Closed)
		}
		if strings.Contains(r.Out+r.Err, key[2:34]) && !strings.Contains(text, key[2:34]) {
			t.Fatalf("%q: the key is in a message: %s%s", args, r.Out, r.Err)
		}
	})
}
