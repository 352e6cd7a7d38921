package eroute

import (
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
)

// Of returns the command that makes a change of eroutes, under a label, and its command
// line behind the name of the applet. The change is a klips.SetEroute, klips.SetPolicy or
// klips.DeleteEroute.
func Of(env *cli.Env, label string, c klips.Change) (cli.Command, []string) {
	r := &request{}
	switch c := c.(type) {
	case klips.SetEroute:
		r.by, r.eroute = "add", c.Eroute
		if c.Replace {
			r.by = "replace"
		}
	case klips.SetPolicy:
		r.by, r.eroute = "addin", c.Eroute()
	case klips.DeleteEroute:
		r.by, r.eroute.Selector = "del", c.Selector
	}
	r.Label = label
	s := r.eroute.Selector
	words := []string{"--" + r.by, "--eraf", klips.FamilyOf(s.Src.Addr()).String(), "--src", subnet(s.Src), "--dst", subnet(s.Dst)}
	if r.by != "del" {
		words = append(words, "--said", r.eroute.ID.String())
	}
	cmd, _ := r.Command(env, App, nil, r)
	return cmd, words
}

// subnet writes a prefix in a form that the applet reads: its addresses differ from those
// of package netip where "::" is concerned.
func subnet(p netip.Prefix) string {
	return klips.FormatAddr(p.Addr()) + p.String()[len(p.Addr().String()):]
}
