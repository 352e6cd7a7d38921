package getopt_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A commandLine is one case for both parsers.
type commandLine struct {
	app  string
	opts []getopt.Option
	mode getopt.Mode
	args []string
}

// TestAgainstLibc compares the results for random command lines with those of
// getopt_long and getopt_long_only in the C library.
func TestAgainstLibc(t *testing.T) {
	cc := skip.WithoutProgram(t, skip.CC)
	oracle := filepath.Join(t.TempDir(), "oracle")
	if out, err := exec.Command(cc, "-o", oracle, "testdata/oracle.c").CombinedOutput(); err != nil {
		skip.Without(t, skip.CC, fmt.Sprintf("the comparison is not built: %v\n%s", err, out))
	}
	const each = 3000
	r := rand.New(rand.NewPCG(1, 2))
	var cases []commandLine
	for _, app := range []*cli.App{spi.App(), eroute.App(), tncfg.App(), klipsdebug.App()} {
		for mode := range getopt.Mode(4) {
			var opts []getopt.Option
			for _, o := range app.Options {
				if o.Whole {
					continue // the C library has no such options
				}
				if mode&getopt.LongOnly != 0 {
					o.Same = "" // in this mode the C library calls even synonyms ambiguous
				}
				opts = append(opts, o)
			}
			for range each {
				cases = append(cases, commandLine{app.Name, opts, mode, randomArgs(r, opts)})
			}
		}
	}
	var in bytes.Buffer
	for _, c := range cases {
		c.write(&in)
	}
	cmd := exec.Command(oracle)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("comparison: %v", err)
	}
	sc := bufio.NewScanner(bytes.NewReader(out))
	verdicts := map[bool]int{}
	for _, c := range cases {
		if !sc.Scan() {
			t.Fatalf("the comparison ends too early: %v", sc.Err())
		}
		want := sc.Text()
		if got := c.run(); got != want {
			t.Errorf("%s mode %d %q:\n got %s\nwant %s", c.app, c.mode, c.args, got, want)
		}
		verdicts[strings.HasSuffix(want, "?")]++
	}
	if verdicts[true] < each || verdicts[false] < each {
		t.Errorf("%d command lines were refused and %d accepted; the generator is too one-sided", verdicts[true], verdicts[false])
	}
}

// write adds the case to the input of the comparison program.
func (c *commandLine) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "%d %d %d\n", c.mode, len(c.opts), len(c.args))
	vals := map[string]int{}
	for _, o := range c.opts {
		hasArg := 0
		if o.Arg != "" {
			hasArg = 1
		}
		name := o.Canonical()
		if vals[name] == 0 {
			vals[name] = 256 + len(vals)
		}
		fmt.Fprintf(b, "%s %d %d\n", o.Name, hasArg, vals[name])
	}
	for _, a := range c.args {
		fmt.Fprintln(b, hexArg(a))
	}
}

func hexArg(a string) string {
	if a == "" {
		return "-"
	}
	return hex.EncodeToString([]byte(a))
}

// run parses the case and returns the result in the form of the comparison program.
func (c *commandLine) run() string {
	var b strings.Builder
	operands, err := getopt.Parse(c.opts, c.args, c.mode, func(o *getopt.Option, value string) error {
		for i := range c.opts {
			if &c.opts[i] == o {
				fmt.Fprintf(&b, " o%d", i)
			}
		}
		if o.Arg != "" {
			b.WriteString("=" + hexArg(value))
		}
		return nil
	})
	if err != nil {
		return b.String() + " ?"
	}
	b.WriteString(" |")
	for _, a := range operands {
		b.WriteString(" " + hexArg(a))
	}
	return b.String()
}

// randomArgs returns a random command line that is often nearly correct.
func randomArgs(r *rand.Rand, opts []getopt.Option) []string {
	words := []string{"", "-", "--", "x", "10.0.0.0/8", "-x", "-xyz", "--nosuch", "--=", "--=v", "-=", "=", "---", "a=b", "\xff\x01"}
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	var args []string
	for range r.IntN(6) {
		if r.IntN(5) == 0 {
			args = append(args, pick(words))
			continue
		}
		o := opts[r.IntN(len(opts))]
		name := o.Name
		if r.IntN(2) == 0 {
			name = name[:1+r.IntN(len(name))]
		}
		if r.IntN(20) == 0 {
			name += pick([]string{"x", "-", "s", "in"})
		}
		dash := "--"
		if r.IntN(5) == 0 {
			dash = "-"
		}
		switch {
		case o.Arg != "" && r.IntN(3) == 0, r.IntN(12) == 0:
			args = append(args, dash+name+"="+pick(words))
		case o.Arg != "" && r.IntN(8) != 0:
			args = append(args, dash+name, pick(words))
		default:
			args = append(args, dash+name)
		}
	}
	return args
}
