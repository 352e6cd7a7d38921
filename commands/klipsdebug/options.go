package klipsdebug

import (
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
)

// An area is a word of --set and --clear: bits of one mask.
type area struct {
	name string
	mask klips.DebugArea
	bits uint32
	set  bool // only for --set, as in KLIPS
}

const all = ^uint32(0)

// areas are the words, except "all".
var areas = [...]area{
	{name: "tunnel", mask: klips.DebugTunnel, bits: all},
	{name: "tncfg", mask: klips.DebugTunnel, bits: 0x100, set: true},
	{name: "xmit", mask: klips.DebugTunnel, bits: 0x10},
	{name: "tunnel-xmit", mask: klips.DebugTunnel, bits: 0x10},
	{name: "netlink", mask: klips.DebugNetlink, bits: all},
	{name: "xform", mask: klips.DebugXform, bits: all},
	{name: "eroute", mask: klips.DebugEroute, bits: all},
	{name: "spi", mask: klips.DebugSPI, bits: all},
	{name: "radij", mask: klips.DebugRadij, bits: all},
	{name: "esp", mask: klips.DebugESP, bits: all},
	{name: "ah", mask: klips.DebugAH, bits: all},
	{name: "rcv", mask: klips.DebugRcv, bits: all},
	{name: "pfkey", mask: klips.DebugPFKey, bits: all},
	{name: "comp", mask: klips.DebugIPComp, bits: all},
	{name: "ipcomp", mask: klips.DebugIPComp, bits: all},
	{name: "verbose", mask: klips.DebugVerbose, bits: all},
}

// options is the option table.
func options() []getopt.Option {
	return append([]getopt.Option{
		{Name: "set", Arg: "AREA", Help: "switch messages of an area on", Values: append([]string{"all"}, areaNames(true)...)},
		{Name: "clear", Arg: "AREA", Help: "switch messages of an area off", Values: append([]string{"all"}, areaNames(false)...)},
		{Name: "all", Help: "switch all messages on; verbose stays as it is"},
		{Name: "none", Help: "switch all messages off"},
		cli.JSONOption("the list"),
	}, cli.CommonOptions()...)
}

// areaNames lists the words that --set or --clear takes, except "all".
func areaNames(set bool) []string {
	var names []string
	for _, a := range areas {
		if set || !a.set {
			names = append(names, a.name)
		}
	}
	return names
}

// A request is a parsed command line.
type request struct {
	cli.Common
	cli.Plain
	by     string // the option that chose the action; "": a listing
	change klips.DebugChange
}

// parse reads a command line. The common options of the request are valid also with an
// error.
func parse(env *cli.Env, args []string) (*request, error) {
	r := &request{}
	err := r.Parse(options(), args, getopt.EnvMode(env.Getenv), func(name, value string) error {
		if r.by != "" {
			return cli.Usagef("--%s after --%s; give one of --set, --clear, --all and --none", name, r.by)
		}
		r.by = name
		switch name {
		case "all":
			r.change = setAll()
		case "none":
			r.change = klips.DebugChange{}
		default:
			var ok bool
			if r.change, ok = change(name == "set", value); !ok {
				if near := getopt.Nearest(value, areaNames(name == "set")); near != "" {
					return cli.Usagef("--%s %s: unknown area; did you mean %s?", name, quote.Value(value), near)
				}
				return cli.Usagef("--%s %s: unknown area; there are all, %s", name, quote.Value(value), strings.Join(areaNames(name == "set"), ", "))
			}
		}
		return nil
	})
	if err == nil && r.JSON && r.by != "" && !r.Help && !r.Version {
		err = cli.Usagef("--json is for the list of masks; it does not go with --%s", r.by)
	}
	return r, err
}

// change returns the change of the masks by --set (or --clear) of an area.
func change(set bool, name string) (klips.DebugChange, bool) {
	if name == "all" {
		if set {
			return setAll(), true
		}
		return klips.DebugChange{}, true
	}
	for _, a := range areas {
		if a.name != name || a.set && !set {
			continue
		}
		c := klips.DebugChange{Set: set}
		if set {
			c.Masks[a.mask] = a.bits
			return c, true
		}
		// The masks of cleared bits are ANDed, so the cleared bits are zero.
		for i := range c.Masks {
			c.Masks[i] = all
		}
		c.Masks[a.mask] = ^a.bits
		return c, true
	}
	return klips.DebugChange{}, false
}

// setAll sets all masks except verbose, which must be named.
func setAll() klips.DebugChange {
	c := klips.DebugChange{Set: true}
	for i := range c.Masks {
		c.Masks[i] = all
	}
	c.Masks[klips.DebugVerbose] = 0
	return c
}
