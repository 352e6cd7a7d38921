// Package ranbits is the applet that prints random bits in the form of keys.
package ranbits

import (
	"context"
	"crypto/rand"
	"io"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/keyfile"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips/syntax"
)

// maxBits is the most bits that one call prints.
const maxBits = 20000

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "ranbits",
		Short:    "print random bits, for keys",
		Synopsis: []string{"[--continuous] [--bytes] NUMBER"},
		Options: []getopt.Option{
			{Name: "quick", Help: "without effect; the kernel is the only source"},
			{Name: "continuous", Help: "no underscore after every 8 hex digits"},
			{Name: "bytes", Help: "NUMBER counts bytes, not bits"},
			{Name: "help", Help: "print this text"},
			{Name: "version", Help: "print the version"},
		},
		Notes: func() string {
			return "NUMBER is 1 to 20000 bits, rounded up to whole bytes. The output can stand\n" +
				"behind --authkey and --enckey of ipsec spi.\n"
		},
		Parse: command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	c := cli.Common{TakesOperands: true}
	continuous, bytes := false, false
	err := c.Parse(App().Options, args, getopt.EnvMode(env.Getenv), func(name, _ string) error {
		switch name {
		case "continuous":
			continuous = true
		case "bytes":
			bytes = true
		}
		return nil
	})
	n := 0
	if err == nil && !c.Help && !c.Version {
		n, err = size(&c, bytes)
	}
	return c.Command(env, App, err, cli.Func(func(_ context.Context, env *cli.Env) error { return run(env, n, continuous) }))
}

// run prints a key of n bytes.
func run(env *cli.Env, n int, continuous bool) error {
	key := make([]byte, n)
	rand.Read(key) // never returns an error
	text := keyfile.Format(key, continuous)
	clear(key)
	defer clear(text)
	return cli.Print(env, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// size returns the number of requested bytes.
func size(c *cli.Common, bytes bool) (int, error) {
	operands := c.Operands
	switch len(operands) {
	case 0:
		return 0, cli.Usagef("NUMBER is missing: how many bits to print")
	case 1:
	default:
		return 0, cli.Usagef("unexpected argument %s after the number", quote.Word(operands[1], c.Places[1]))
	}
	unit, most := "bits", uint64(maxBits)
	if bytes {
		unit, most = "bytes", maxBits/8
	}
	n, err := syntax.ParseNumber(operands[0], 10, most)
	if err != nil {
		return 0, cli.Usagef("number of %s %s: %v", unit, quote.Value(operands[0]), err)
	}
	if n == 0 {
		return 0, cli.Usagef("number of %s 0: at least 1 is wanted", unit)
	}
	if bytes {
		return int(n), nil
	}
	return int(n+7) / 8, nil
}
