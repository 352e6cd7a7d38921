package setup

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/quote"
	seqmarks "github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/klips/user"
)

// unit is the unit of systemd that runs the machine's own daemon.
const unit = "ipsec.service"

// isUnit reports whether the daemon is that of the unit: it is the machine's own, systemd
// runs, and the unit starts this program. A process of a unit (INVOCATION_ID, see
// systemd.exec(5)) must not wait for another unit, which may wait for it.
func (d daemon) isUnit(ctx context.Context) bool {
	if d.rundir != user.DefaultRundir || d.statedir != seqmarks.DefaultDir || d.env.Getenv("INVOCATION_ID") != "" || !booted() {
		return false
	}
	self, err := os.Executable()
	return err == nil && startsDaemon(show(ctx, "ExecStart")["ExecStart"], self)
}

// show returns the values of properties of the unit by their names; empty if there is none.
func show(ctx context.Context, names ...string) map[string]string {
	p := map[string]string{}
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property="+strings.Join(names, ","), unit).Output()
	if err != nil {
		return p
	}
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			p[name] = value
		}
	}
	return p
}

// booted reports whether systemd has booted this machine, see sd_booted(3).
func booted() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// startsDaemon reports whether a property ExecStart, as systemctl show prints it, is the
// daemon of a program: other programs have units with the same name.
func startsDaemon(property, program string) bool {
	_, rest, _ := strings.Cut(property, "path=")
	path, rest, _ := strings.Cut(rest, " ; ")
	_, rest, _ = strings.Cut(rest, "argv[]=")
	argv, _, _ := strings.Cut(rest, " ; ")
	words := strings.Fields(argv)
	return len(words) == 2 && words[1] == "klipsd" && same(path, program)
}

// same reports whether two paths lead to one file.
func same(a, b string) bool {
	var infos [2]fs.FileInfo
	for i, path := range []string{a, b} {
		var err error
		if infos[i], err = os.Stat(path); err != nil {
			return false
		}
	}
	return os.SameFile(infos[0], infos[1])
}

// systemctl does something with the unit, as "start" or "stop".
func systemctl(ctx context.Context, action string, options ...string) error {
	args := append([]string{"--no-ask-password", action}, options...)
	out, err := exec.CommandContext(ctx, "systemctl", append(args, unit)...).CombinedOutput()
	if err != nil {
		why, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("systemctl %s %s: %w: %s; journalctl -u %s has the reason", action, unit, err, quote.Value(why), unit)
	}
	return nil
}
