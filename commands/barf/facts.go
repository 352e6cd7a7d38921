package barf

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/ends"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/output"
)

// facts collects what can be compared with the other end.
func (r *request) facts(ctx context.Context, env *cli.Env) (list output.BarfList) {
	b := output.Barf{
		Host: r.machine.host(), Time: r.machine.now().UTC(), Program: env.Version(), Kernel: r.machine.kernel(),
		Addresses: append([]netip.Addr{}, r.machine.addresses()...),
		SAs:       []output.SA{}, Groups: []output.Group{}, Eroutes: []output.Eroute{}, Devices: []output.Device{},
		Connections: []output.Connection{}, KeyFingerprints: []output.KeyFingerprint{},
	}
	leave := func(what string, err error) { b.LeftOut = append(b.LeftOut, what+": "+explain.Line(err)) }
	name := ""
	if s, err := env.Stack(ctx); err != nil {
		leave("stack", err)
	} else {
		defer s.Close()
		name = s.Info().Name
		ends.Read(ctx, s, &b, leave)
	}
	list.Head = output.NewHead(name)
	var status output.StatusList
	if out, rest := r.call(ctx, env, []string{"status", "--json"}); json.Unmarshal([]byte(out), &status) == nil && status.Connections != nil {
		b.Connections = status.Connections
	} else {
		b.LeftOut = append(b.LeftOut, "connections: "+strings.TrimSpace(rest))
	}
	list.Ends = []output.Barf{b}
	return list
}
