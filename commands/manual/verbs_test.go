package manual

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
)

// What is refused starts no stack.
func TestVerbsRefuse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.conf")
	text := `conn net
	left=10.0.0.1
	right=10.0.0.2
	spi=0x200
	esp=aes128-sha1
	espenckey=0x0123456789abcdef0123456789abcdef
	espauthkey=0x0123456789abcdef0123456789abcdef01234567
	espreplay_window=64
conn unkeyed
	left=10.0.0.1
	right=10.0.0.9
	auto=start
conn short
	also=net
	leftespspi=0x10
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	started := 0
	start := func(context.Context, *cli.Env) error { started++; return errors.New("the test has no stack") }
	for _, tt := range []struct {
		args   string
		status int
		want   string
	}{
		{"up", 2, "which connection is missing: give a name, or --all"},
		{"route", 2, "which connection is missing: give a name"},
		{"up --all net", 2, "--all and the name net; one of both"},
		{"up net net", 2, "net is there twice"},
		{"up net/x", 2, "connection: net/x is no name"},
		{"unroute --all", 2, "--all"},
		{"down --config", 2, "--config"},
		{"up nett", 1, "no conn nett in " + file + "; did you mean net?"},
		{"up net unkeyed", 1, "conn unkeyed: it has neither spi nor spibase, so it is for a key daemon"},
		{"up net short", 1, "short"},
		{"up --config " + dir + "/none net", 1, "no such file"},
		{"up net", 1, "the test has no stack"},
	} {
		verb, args, _ := strings.Cut(tt.args, " ")
		app := map[string]func(Start) *cli.App{"up": Up, "down": Down, "route": Route, "unroute": Unroute}[verb](start)
		app.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
			return verbCommand(env, app, args, left, nil, start)
		}
		before := started
		r := clitest.Run(app, clitest.World{StackErr: errors.New("no stack"), Environ: map[string]string{"IPSEC_CONFS": dir}}, strings.Fields(args)...)
		if r.Status != tt.status || !strings.Contains(r.Err, tt.want) || r.Out != "" {
			t.Errorf("%s: status %d, %q, want %d, %q", tt.args, r.Status, r.Err, tt.status, tt.want)
		}
		if tt.args != "up net" && started != before {
			t.Errorf("%s: a stack was started", tt.args)
		}
	}
	if started != 1 {
		t.Errorf("a stack was started %d times, want once", started)
	}
}
