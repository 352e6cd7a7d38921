// Package genkey is the applet that makes a key of the length that an algorithm needs.
package genkey

import (
	"context"
	"crypto/rand"
	"io"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/keyfile"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/derive"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// master is the operand for a master key.
const master = "master"

// App returns the applet.
func App() *cli.App {
	a := table()
	a.Operands = []string{master}
	for _, list := range [...][]syntax.AlgName{syntax.ESPNames(), syntax.AHNames()} {
		for _, alg := range list {
			a.Operands = append(a.Operands, alg.Name)
		}
	}
	return a
}

// table returns the applet for the parser. It leaves out the list of algorithms, which
// takes more time than a key.
func table() *cli.App {
	return &cli.App{
		Name:     "genkey",
		Short:    "make a random key for an algorithm or a connection",
		Synopsis: []string{"[--enc | --auth] [--out FILE] ALG", "[--out FILE] " + master},
		Options: append([]getopt.Option{
			{Name: "enc", Help: "the encryption key of an algorithm that has two keys"},
			{Name: "auth", Help: "its authentication key"},
			{Name: "out", Arg: "FILE", Help: "write the key to the new file FILE that only its owner can read", Values: []string{"<file>"}},
		}, cli.CommonOptions()...),
		Notes: func() string {
			return "ALG is an algorithm as after --esp and --ah of ipsec spi; " + master + " is the\n" +
				"one key of a connection, for masterkey= in its file.\n"
		},
		Parse: command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	r := &request{}
	r.TakesOperands = true
	err := r.Parse(table().Options, args, getopt.EnvMode(env.Getenv), r.option)
	if err == nil && !r.Help && !r.Version {
		err = r.finish()
	}
	return r.Command(env, App, err, cli.Func(r.run))
}

// A request is a parsed command line.
type request struct {
	cli.Common
	use  string // enc or auth; empty: neither is given
	out  string // empty: standard output
	size int    // of the key, in bytes
}

func (r *request) option(name, value string) error {
	switch name {
	case "enc", "auth":
		if r.use != "" && r.use != name {
			return cli.Usagef("--%s after --%s; one key at a time", name, r.use)
		}
		r.use = name
	case "out":
		if value == "" {
			return cli.Usagef("--out: there is no file name")
		}
		r.out = value
	}
	return nil
}

// finish finds the length of the key.
func (r *request) finish() error {
	switch len(r.Operands) {
	case 0:
		return cli.Usagef("ALG is missing: the algorithm that the key is for, or %s", master)
	case 1:
	default:
		return cli.Usagef("unexpected argument %s after the algorithm", quote.Word(r.Operands[1], r.Places[1]))
	}
	name := r.Operands[0]
	if name == master {
		if r.use != "" {
			return cli.Usagef("--%s does not go with %s, from which all keys are derived", r.use, master)
		}
		r.size = derive.MinMaster
		return nil
	}
	enc, auth, err := sizes(name)
	if err != nil {
		return cli.Usagef("%s: %w", quote.Value(name), err)
	}
	switch {
	case r.use == "" && enc > 0 && auth > 0:
		return cli.Usagef("%s has two keys; give --enc for the encryption key, --auth for the other", name)
	case r.use == "enc" && enc == 0:
		return cli.Usagef("--enc: %s has no encryption key", name)
	case r.use == "auth" && auth == 0:
		return cli.Usagef("--auth: %s has no separate authentication key", name)
	case r.use == "enc", r.use == "" && enc > 0:
		r.size = enc
	default:
		r.size = auth
	}
	return nil
}

// sizes returns the lengths of the keys of an algorithm in bytes; 0: it has no such key.
// No name is both one of ESP and one of AH.
func sizes(name string) (enc, auth int, err error) {
	t, bits, err := syntax.ParseESP(name)
	if err != nil {
		a, ahErr := syntax.ParseAH(name)
		switch {
		case ahErr == nil:
			t, bits, err = klips.Transform{Auth: a}, 0, nil
		case strings.HasPrefix(strings.ToLower(name), "hmac"):
			err = ahErr
		}
	}
	if err != nil {
		return 0, 0, err
	}
	enc, auth = syntax.KeySizes(t, bits)
	return enc, auth, nil
}

func (r *request) run(_ context.Context, env *cli.Env) error {
	key := make([]byte, r.size)
	rand.Read(key) // never returns an error
	text := keyfile.Format(key, false)
	clear(key)
	defer clear(text)
	if r.out != "" {
		return keyfile.Create(r.out, text)
	}
	return cli.Print(env, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}
