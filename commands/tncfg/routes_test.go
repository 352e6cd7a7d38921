package tncfg

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A named is a stack with a given name.
type named struct {
	*clitest.Stack
	name string
}

func (s named) Name() string { return s.name }

// TestDeleteRouted: on no stack is a device deleted while routes lead into it; the
// error names the routes. A KLIPS kernel deletes all devices except ipsec0.
func TestDeleteRouted(t *testing.T) {
	p := netip.MustParsePrefix
	four := routes.Route{Dst: p("10.2.0.0/24"), Device: "ipsec1"}
	six := routes.Route{Dst: p("fd02::/64"), Device: "ipsec1", Metric: 1024}
	other := routes.Route{Dst: p("10.7.0.0/16"), Device: "ipsec1", Table: 77}
	for _, tt := range []struct {
		name   string
		routes []routes.Route
		err    error
		want   string
	}{
		{"none", nil, nil, ""},
		{"one", []routes.Route{four}, nil, "the route 10.2.0.0/24 dev ipsec1 leads into it, and its packets could leave in clear without it; remove it first with ip route del 10.2.0.0/24 dev ipsec1"},
		{"IPv6", []routes.Route{six}, nil, "the route fd02::/64 dev ipsec1 metric 1024 leads into it, and its packets could leave in clear without it; remove it first with ip -6 route del fd02::/64 dev ipsec1 metric 1024"},
		{"another table", []routes.Route{other}, nil, "the route 10.7.0.0/16 dev ipsec1 table 77 leads into it, and its packets could leave in clear without it; remove it first with ip route del 10.7.0.0/16 dev ipsec1 table 77"},
		{"several", []routes.Route{four, other, six}, nil, "the route 10.2.0.0/24 dev ipsec1 and 2 more lead into it, and their packets could leave in clear without it; remove them first, as with ip route del 10.2.0.0/24 dev ipsec1"},
		{"not known", nil, errors.New("no netlink"), "the routes into it are not known: no netlink"},
	} {
		asked := ""
		app := App()
		app.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
			return command(env, args, func(device string) ([]routes.Route, error) {
				asked = device
				return tt.routes, tt.err
			})
		}
		for _, name := range []string{"user", "xfrm", "klips"} {
			s := &clitest.Stack{}
			w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(named{s, name}) }}
			r := clitest.Run(app, w, "--delete", "ipsec01")
			want, status := "", cli.ExitOK
			if tt.want != "" {
				want, status = "ipsec tncfg: ipsec1: not deleted: "+tt.want+"\n", cli.ExitFailed
			}
			if r.Status != status || r.Err != want || (len(s.Messages) == 0) != (want != "") || asked != "ipsec1" {
				t.Errorf("%s on stack %s: status %d, %swant %s%d messages, asked for %q", tt.name, name, r.Status, r.Err, want, len(s.Messages), asked)
			}
		}
	}
}
