package manual

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
)

// Commands that read, and those that find nothing to do, make no file and start no stack.
func TestReadersMakeNothing(t *testing.T) {
	b := newRecorded(t, tunnel)
	missing := &klips.UnavailableError{Fault: klips.FaultNoStack, Err: fs.ErrNotExist}
	forbidden := &klips.UnavailableError{Fault: klips.FaultNoStack, Err: errors.Join(fs.ErrNotExist, syscall.EPERM)}
	for _, tt := range []struct {
		line string
		err  error // of the stack
		want string
	}{
		{"status", nil, "t  down"},
		{"status t", missing, "t  down"},
		{"status t", forbidden, "note: left out: "},
		{"diff FILE", nil, ""},
		{"diff FILE", missing, ""},
		{"apply --dry-run FILE", nil, ""},
		{"apply FILE", nil, ""},
		{"apply --prune FILE", missing, ""},
		{"reload --config FILE t", missing, ""},
		{"down --config FILE t", nil, "note: conn t: it was not up"},
		{"down --config FILE --all", nil, ""},
		{"unroute --config FILE t", nil, "note: conn t: it was not up"},
		{"rekey t", nil, "it is not up, or was made by another program"},
		{"manual --down t", nil, "note: conn t: it was not up"},
		{"manual --showonly --up t", nil, "ipsec spi"},
		{"manual --renew", nil, ""},
		{"manual --renew t", nil, "it does not follow the default route"},
	} {
		b.stackErr = tt.err
		name, rest, _ := strings.Cut(tt.line, " ")
		run := map[string]func(string) clitest.Result{
			"status": b.status, "manual": b.run,
			"rekey": func(line string) clitest.Result { return b.rekey(&testClock{}, line) },
		}[name]
		if run == nil {
			run, rest = b.command, tt.line
		}
		r := run(rest)
		if got := r.Out + r.Err; tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %+v, want %q", tt.line, r, tt.want)
		}
		if _, err := os.Stat(b.host.rundir); !errors.Is(err, fs.ErrNotExist) {
			files, _ := filepath.Glob(b.host.rundir + "/*")
			t.Errorf("%s makes %s, %q", tt.line, b.host.rundir, files)
			os.RemoveAll(b.host.rundir)
		}
		if b.started > 0 {
			t.Errorf("%s starts the stack", tt.line)
			b.started = 0
		}
	}
}
