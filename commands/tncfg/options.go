package tncfg

import (
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// options returns the option table. One dash is enough for each option.
func options() []getopt.Option {
	virtual, physical := []string{"<virtual>"}, []string{"<device>"}
	return append([]getopt.Option{
		{Name: "attach", Help: "bind --virtual to --physical"},
		{Name: "detach", Help: "unbind --virtual"},
		{Name: "clear", Help: "unbind all virtual devices"},
		{Name: "create", Arg: "VIRTUAL", Help: "make a virtual device", Values: virtual},
		{Name: "delete", Arg: "VIRTUAL", Help: "remove a virtual device that no route leads into", Values: virtual},
		{Name: "virtual", Arg: "VIRTUAL", Help: "a virtual device, ipsec0 to ipsec63", Values: virtual},
		{Name: "physical", Arg: "PHYSICAL", Help: "a device that packets leave by", Values: physical},
		{Name: "direct", Help: "with --attach: send ESP and AH faster, past the firewall's output hook, traffic control and captures of this host"},
		cli.JSONOption("the list"),
	}, cli.CommonOptions()...)
}

// A request is a parsed command line.
type request struct {
	cli.Common
	cli.Plain
	by                string // the option that chose the action; "": a listing
	virtual, physical string
	direct            bool
	into              func(device string) ([]routes.Route, error) // lists the routes into a device
}

// maxName is the longest name of a device, in bytes (IFNAMSIZ less the NUL).
const maxName = 15

// parse reads a command line. The common options of the request are valid also with an
// error.
func parse(env *cli.Env, args []string) (*request, error) {
	r := &request{}
	var virtual, physical string
	other := false
	err := r.Parse(options(), args, getopt.LongOnly|getopt.EnvMode(env.Getenv), func(name, value string) error {
		other = true
		switch name {
		case "virtual":
			virtual = value
			return checkName(name, value)
		case "physical":
			physical = value
			return checkName(name, value)
		case "direct":
			r.direct = true
			return nil
		}
		if r.by != "" {
			return cli.Usagef("--%s after --%s; give one of --attach, --detach, --create, --delete and --clear", name, r.by)
		}
		r.by = name
		if name == "create" || name == "delete" {
			var err error
			r.virtual, err = virtualName(name, value)
			return err
		}
		return nil
	})
	if err != nil || r.Help || r.Version {
		return r, err
	}
	switch {
	case r.JSON && r.by != "":
		return r, cli.Usagef("--json is for the list of devices; it does not go with --%s", r.by)
	case r.by == "" && other:
		return r, cli.Usagef("nothing to do; give one of --attach, --detach, --create, --delete and --clear")
	case r.by == "attach" && physical == "":
		return r, cli.Usagef("--attach needs --physical DEVICE, the device that packets leave by")
	case (r.by == "attach" || r.by == "detach") && virtual == "":
		return r, cli.Usagef("--%s needs --virtual, as in --virtual ipsec0", r.by)
	case r.direct && r.by != "attach":
		return r, cli.Usagef("--direct is for --attach; it does not go with --%s", r.by)
	case r.by == "attach" && virtual == physical:
		return r, cli.Usagef("--virtual and --physical are both %s", quote.Value(virtual))
	}
	switch r.by {
	case "attach":
		r.virtual, r.physical = virtual, physical
	case "detach":
		r.virtual = virtual
	}
	return r, nil
}

// checkName refuses names that no device can have.
func checkName(option, name string) error {
	switch {
	case len(name) > maxName:
		return cli.Usagef("--%s %s: names of devices have at most %d characters", option, quote.Value(name), maxName)
	case strings.ContainsAny(name, "/ \t\r\n\v\f\x00"):
		return cli.Usagef("--%s %s: names of devices have no blanks and no slashes", option, quote.Value(name))
	}
	return nil
}

// virtualName parses a name for --create or --delete and returns its usual form: the
// number without leading zeros.
func virtualName(option, name string) (string, error) {
	number, ok := strings.CutPrefix(name, "ipsec")
	if !ok {
		number, ok = strings.CutPrefix(name, "mast")
	}
	n, err := syntax.ParseNumber(number, 10, 0xffff)
	switch {
	case !ok || err != nil || len(number) > 5:
		return "", cli.Usagef("--%s %s: not the name of a virtual device; those are ipsec0 to ipsec%d", option, quote.Value(name), klips.MaxDevices-1)
	case n >= klips.MaxDevices:
		return "", cli.Usagef("--%s %s: the number is too large; devices are ipsec0 to ipsec%d", option, quote.Value(name), klips.MaxDevices-1)
	}
	return name[:len(name)-len(number)] + strconv.FormatUint(n, 10), nil
}
