package manual

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/manual/host"
)

// TestShowDefaults: the defaults of a host with a default route and files, of one without
// any, and of one with a bad run directory.
func TestShowDefaults(t *testing.T) {
	folder := t.TempDir()
	b := &bench{file: folder + "/net.conf"}
	b.write(t, "conn net\n")
	routed := testHost{route: followed.Route{Local: netip.MustParseAddr("192.0.2.1"), Gateway: netip.MustParseAddr("192.0.2.254"), Device: "eth0"}}
	link := testHost{route: followed.Route{Local: netip.MustParseAddr("192.0.2.1"), Device: "ppp0"}}
	for name, c := range map[string]struct {
		h host.Host
		w clitest.World
	}{
		"showdefaults": {routed, clitest.World{Environ: map[string]string{"IPSEC_CONFS": folder, "IPSEC_RUNDIR": "/run/other", "IPSEC_STATEDIR": "/var/other"}}},
		"showdefaults-none": {testHost{noDefault: true}, clitest.World{StackErr: errors.New("none here"),
			Environ: map[string]string{"IPSEC_CONF": "/etc/other.conf", "IPSEC_RUNDIR": "/run/other"}}},
		"showdefaults-bad": {link, clitest.World{Environ: map[string]string{"IPSEC_CONFS": "/nothing/here", "IPSEC_RUNDIR": "/" + strings.Repeat("long/", 30), "IPSEC_STATEDIR": "none"}}},
	} {
		for _, args := range [][]string{nil, {"--json"}} {
			a := ShowDefaults()
			a.Parse = func(env *cli.Env, args []string) (cli.Command, error) { return defaultsCommand(env, a, args, c.h) }
			r := clitest.Run(a, c.w, args...)
			if r.Status != 0 || r.Err != "" {
				t.Errorf("%s: status %d, %s", name, r.Status, r.Err)
			}
			out := strings.ReplaceAll(r.Out, folder, "/etc/confs")
			if args == nil {
				clitest.Golden(t, name+".txt", out)
			} else {
				clitest.GoldenJSON(t, "showdefaults", name, out)
			}
		}
	}
}
