package eroute

import (
	"strconv"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// Of returns the command for a change of eroutes, under a label, and its command line
// after the name of the applet. The change is a klips.SetEroute, klips.SetPolicy or
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
	words := []string{"--" + r.by, "--eraf", syntax.FamilyOf(s.Src.Addr()).String(), "--src", klips.FormatPrefix(s.Src), "--dst", klips.FormatPrefix(s.Dst)}
	if s.OfBoth() {
		words = append(words, "--transport-proto", tcpAndUDP)
	}
	for _, o := range []struct {
		name  string
		value int
	}{{"transport-proto", int(s.Proto)}, {"src-port", int(s.SrcPort)}, {"dst-port", int(s.DstPort)}} {
		if o.value != 0 {
			words = append(words, "--"+o.name, strconv.Itoa(o.value))
		}
	}
	if r.by != "del" {
		words = append(words, "--said", r.eroute.ID.String())
		for _, id := range r.eroute.Also {
			words = append(words, "--also", id.String())
		}
	}
	cmd, _ := r.Command(env, App, nil, r)
	return cmd, words
}
