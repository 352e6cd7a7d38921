package pf_key

import (
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// options is the option table.
func options() []getopt.Option {
	file := []string{"<file>"}
	return append([]getopt.Option{
		{Name: "ah", Help: "register for AH"},
		{Name: "esp", Help: "register for ESP"},
		{Name: "ipip", Help: "register for tunnels"},
		{Name: "ipcomp", Help: "register for compression"},
		{Name: "words", Help: "print each message on one line, in words: SAs, addresses, algorithms, limits"},
		{Name: "daemon", Arg: "FILE", Help: "run in the background, with the process id in FILE (short: -f)", Values: file},
		{Name: "dumpfile", Arg: "FILE", Help: "print the messages in FILE and do not listen (short: -d)", Values: file},
		{Name: "encodefile", Arg: "FILE", Help: "for compatibility; no version has implemented it", Hidden: true},
		{Name: "ready-fd", Arg: "N", Help: "write to file descriptor N when registered", Hidden: true},
	}, cli.CommonOptions()...)
}

// long returns the option that a letter stands for; empty: none.
func long(letter byte) string {
	switch letter {
	case 'h':
		return "--help"
	case 'f':
		return "--daemon"
	case 'd':
		return "--dumpfile"
	case 'e':
		return "--encodefile"
	}
	return ""
}

// lengthen replaces options of one letter, as in "-f FILE" and "-fFILE", by their long
// names.
func lengthen(args []string) []string {
	out := make([]string, 0, len(args))
	for i, a := range args {
		if a == "--" {
			return append(out, args[i:]...)
		}
		if len(a) < 2 || a[0] != '-' || long(a[1]) == "" || i > 0 && takesValue(args[i-1]) {
			out = append(out, a)
			continue
		}
		out = append(out, long(a[1]))
		if len(a) > 2 {
			out = append(out, a[2:])
		}
	}
	return out
}

// takesValue reports whether an argument is an option whose value is the next argument.
func takesValue(arg string) bool {
	if len(arg) == 2 && arg[0] == '-' {
		return long(arg[1]) != "" && arg[1] != 'h'
	}
	name, ok := strings.CutPrefix(arg, "--")
	if !ok || name == "" {
		return false
	}
	for _, o := range options() {
		if o.Arg != "" && strings.HasPrefix(o.Name, name) {
			return true
		}
	}
	return false
}

// A request is a parsed command line.
type request struct {
	cli.Common
	satypes []pfkey.SAType // in the order of registering; all four if none was given
	daemon  string         // the file for the process id
	dump    string         // the file to print
	words   bool           // one line of words for each message
	readyFD int            // 0: no process waits
}

func parse(env *cli.Env, args []string) (*request, error) {
	r := new(request)
	named := map[string]bool{}
	err := r.Parse(options(), lengthen(args), getopt.EnvMode(env.Getenv), func(name, value string) error {
		switch name {
		case "daemon", "dumpfile", "encodefile":
			if value == "" {
				return cli.Usagef("--%s needs the name of a file", name)
			}
		}
		switch name {
		case "daemon":
			r.daemon = value
		case "dumpfile":
			r.dump = value
		case "words":
			r.words = true
		case "ready-fd":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil || n < 3 {
				return cli.Usagef("--ready-fd %s: not a file descriptor above 2", quote.Value(value))
			}
			r.readyFD = int(n)
		default:
			named[name] = true
		}
		return nil
	})
	switch {
	case err != nil || r.Help || r.Version:
		return r, err
	case named["encodefile"]:
		return r, cli.Usagef("--encodefile: no version of this command could encode messages")
	case r.dump != "" && r.daemon != "":
		return r, cli.Usagef("--daemon and --dumpfile: a file is printed at once; give one")
	}
	for _, s := range satypeOptions {
		if len(named) == 0 || named[s.option] {
			r.satypes = append(r.satypes, s.satype)
		}
	}
	return r, nil
}

// satypeOptions are the SA types in the order in which they are registered.
var satypeOptions = [...]struct {
	option string
	satype pfkey.SAType
}{
	{"ah", pfkey.SATypeAH}, {"esp", pfkey.SATypeESP}, {"ipip", pfkey.SATypeIPIP}, {"ipcomp", pfkey.SATypeComp},
}

// args returns arguments for the same request, without a label.
func (r *request) args() []string {
	var a []string
	for _, s := range r.satypes {
		for _, o := range satypeOptions {
			if o.satype == s {
				a = append(a, "--"+o.option)
			}
		}
	}
	if r.daemon != "" {
		a = append(a, "--daemon", r.daemon)
	}
	if r.words {
		a = append(a, "--words")
	}
	if r.Debug {
		a = append(a, "--debug")
	}
	return a
}
