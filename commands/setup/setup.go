// Package setup is the applet setup: it starts and stops the embedded stack's
// daemon and tells how it is.
package setup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/klips/user"
)

// App is the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "setup",
		Short:    "start, stop or examine the embedded stack",
		Synopsis: []string{"start", "stop", "restart", "status [--json]", "set KNOB=VALUE ..."},
		Notes:    notes,
		Options: append([]getopt.Option{
			{Name: "json", Help: "print the status as JSON"},
			{Name: "start", Help: "the same as start", Hidden: true},
			{Name: "stop", Help: "the same as stop", Hidden: true},
			{Name: "restart", Help: "the same as restart", Hidden: true},
			{Name: "status", Help: "the same as status", Hidden: true},
		}, cli.CommonOptions()...),
		Run: run,
	}
}

// exitStopped is the status of "status" when no daemon runs, as LSB init
// scripts have it.
const exitStopped = 3

// actions are the words that setup takes.
var actions = [...]string{"start", "stop", "restart", "status", "set"}

func notes() string {
	return `Knobs are 0 or 1, and have these values after a start:
  icmp=1                     tell senders of packets that will be too long
  inbound_policy_check=1     check source, group and addresses of what arrives
  inbound_policy_required=0  take nothing through a tunnel without eroute --addin
  tos=1                      outer headers have TOS 0, not that of the packet
`
}

func run(ctx context.Context, env *cli.Env, args []string) error {
	common := cli.Common{TakesOperands: true}
	asJSON := false
	var words []string
	err := common.Parse(App().Options, args, getopt.EnvMode(env.Getenv), func(name, _ string) error {
		if name == "json" {
			asJSON = true
		} else {
			words = append(words, name)
		}
		return nil
	})
	words = append(words, common.Operands...)
	switch {
	case err != nil || common.Help || common.Version:
	case len(words) == 0:
		err = cli.Usagef("what to do is missing: %s", strings.Join(actions[:], ", "))
	case len(words) > 1 && words[0] != "set":
		err = cli.Usagef("one thing at a time: %s and %s were given", getopt.Quote(words[0]), getopt.Quote(words[1]))
	case asJSON && words[0] != "status":
		err = cli.Usagef("--json goes with status only")
	}
	if done, err := common.Begin(env, App(), err); done {
		return err
	}
	rundir := user.Rundir(env.Getenv)
	switch words[0] {
	case "start":
		return start(ctx, env, rundir)
	case "stop":
		return stop(ctx, env, rundir)
	case "restart":
		if err := stop(ctx, env, rundir); err != nil {
			return err
		}
		return start(ctx, env, rundir)
	case "set":
		return set(ctx, rundir, words[1:])
	case "status":
		return status(ctx, env, rundir, asJSON)
	}
	return cli.Usagef("%s: no such action; there are %s", getopt.Quote(words[0]), strings.Join(actions[:], ", "))
}

// set sets knobs of the running stack, all or none.
func set(ctx context.Context, rundir string, words []string) error {
	if len(words) == 0 {
		return cli.Usagef("set: a knob is missing, as in tos=0")
	}
	knobs := map[string]int{}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok || value != "0" && value != "1" {
			return cli.Usagef("set %s: write KNOB=0 or KNOB=1", getopt.Quote(w))
		}
		if _, twice := knobs[name]; twice {
			return cli.Usagef("set %s: it was given twice", getopt.Quote(name))
		}
		knobs[name] = int(value[0] - '0')
	}
	c, err := user.Dial(user.SocketPath(rundir))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: no permission to talk to the daemon; run this as the user who started it, or as root", rundir)
	case err != nil:
		return fmt.Errorf("no daemon runs in %s; start one with: ipsec setup start", rundir)
	}
	defer c.Close()
	if err := c.Set(ctx, knobs); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set %s: there is no such knob; ipsec setup status lists them", strings.Join(words, " "))
		}
		return err
	}
	return nil
}

func status(ctx context.Context, env *cli.Env, rundir string, asJSON bool) error {
	c, err := user.Dial(user.SocketPath(rundir))
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%s: no permission to ask the daemon; run this as the user who started it, or as root", rundir)
		}
		if err := cli.Print(env, func(w io.Writer) error {
			if asJSON {
				return json.NewEncoder(w).Encode(map[string]any{"running": false, "stack": "user", "rundir": rundir})
			}
			_, err := fmt.Fprintf(w, "IPsec stopped (stack user, %s); start it with: ipsec setup start\n", rundir)
			return err
		}); err != nil {
			return err
		}
		return &cli.ExitError{Code: exitStopped}
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	return cli.Print(env, func(w io.Writer) error {
		if asJSON {
			return json.NewEncoder(w).Encode(struct {
				Running bool   `json:"running"`
				Stack   string `json:"stack"`
				user.Status
			}{true, "user", s})
		}
		fmt.Fprintf(w, "IPsec running - pid: %d\n", s.PID)
		fmt.Fprintf(w, "stack user %s in %s, up %v\n", s.Version, s.Rundir, time.Duration(s.Uptime)*time.Second)
		fmt.Fprintf(w, "%d SAs, %d eroutes\n", s.SAs, s.Eroutes)
		for _, d := range s.Devices {
			if d.Physical == "" {
				fmt.Fprintf(w, "%s not attached\n", d.Name)
				continue
			}
			fmt.Fprintf(w, "%s on %s, mtu %d\n", d.Name, d.Physical, d.PhysMTU)
		}
		for _, k := range s.Knobs {
			fmt.Fprintf(w, "%s=%d\n", k.Name, k.Value)
		}
		return nil
	})
}
