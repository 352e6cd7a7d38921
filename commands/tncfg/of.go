package tncfg

import (
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
)

// Of returns the command that makes a change of one device, under a label, and its
// command line after the name of the applet.
func Of(env *cli.Env, label string, c klips.Change) (cli.Command, []string) {
	r := &request{into: func(device string) ([]routes.Route, error) { return routes.Into(device) }}
	var words []string
	switch c := c.(type) {
	case klips.Attach:
		r.by, r.virtual, r.physical, r.direct = "attach", c.Virtual, c.Physical, c.Direct
		words = []string{"--attach", "--virtual", c.Virtual, "--physical", c.Physical}
		if c.Direct {
			words = append(words, "--direct")
		}
	case klips.Detach:
		r.by, r.virtual = "detach", c.Virtual
		words = []string{"--detach", "--virtual", c.Virtual}
	case klips.CreateDevice:
		r.by, r.virtual = "create", c.Virtual
		words = []string{"--create", c.Virtual}
	case klips.DeleteDevice:
		r.by, r.virtual = "delete", c.Virtual
		words = []string{"--delete", c.Virtual}
	}
	r.Label = label
	cmd, _ := r.Command(env, App, nil, r)
	return cmd, words
}
