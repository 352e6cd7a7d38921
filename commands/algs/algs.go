// Package algs is the applet that lists all algorithms, with the names that other programs
// have for them, and what the stack can do with them.
package algs

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
)

// App returns the applet.
func App() *cli.App {
	a := table()
	for _, t := range transforms() {
		r := output.NewAlgorithm(t)
		a.Operands = append(a.Operands, r.Word)
	}
	return a
}

// table returns the applet for the parser, without the names of all algorithms.
func table() *cli.App {
	return &cli.App{
		Name:     "algs",
		Short:    "list the algorithms, all their names, and what the stack can do",
		Synopsis: []string{"[--bench] [--json] [NAME ...]"},
		Options: append([]getopt.Option{
			{Name: "bench", Help: "measure also the speed of each on this machine, which takes some seconds"},
			cli.JSONOption("the algorithms"),
		}, cli.CommonOptions()...),
		Notes: func() string {
			return "NAME is any name of an algorithm: ours, that of its RFC, of the kernel, of setkey\n" +
				"or of Wireshark; or a transform such as aes128-sha1. Without it, all are listed.\n"
		},
		Parse: command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	r := &request{now: time.Now}
	r.TakesOperands = true
	err := r.Parse(table().Options, args, getopt.EnvMode(env.Getenv), func(name, _ string) error {
		r.bench = r.bench || name == "bench"
		return nil
	})
	if err == nil && !r.Help && !r.Version {
		err = r.choose()
	}
	return r.Command(env, App, err, cli.Func(r.run))
}

// A request is a parsed command line.
type request struct {
	cli.Common
	bench  bool
	now    func() time.Time
	chosen []klips.Transform // each with one algorithm
}

// choose finds the algorithms of the operands.
func (r *request) choose() error {
	if len(r.Operands) == 0 {
		r.chosen = transforms()
		return nil
	}
	named := map[klips.Transform]bool{}
	for _, name := range r.Operands {
		l := find(name)
		if len(l) == 0 {
			meant := "; ipsec algs lists all names"
			near := getopt.Nearest(strings.ToLower(name), words())
			if near != "" {
				meant = "; did you mean " + near + "?"
			}
			return cli.Usagef("no algorithm has the name %s%s", quote.Name(name, near != ""), meant)
		}
		for _, t := range l {
			named[t] = true
		}
	}
	for _, t := range transforms() {
		if named[t] {
			r.chosen = append(r.chosen, t)
		}
	}
	return nil
}

func (r *request) run(ctx context.Context, env *cli.Env) error {
	list := output.AlgsList{}
	for _, t := range r.chosen {
		list.Algorithms = append(list.Algorithms, output.NewAlgorithm(t))
	}
	name := ""
	if stack, err := env.Stack(ctx); err != nil {
		list.Problem = explain.Line(err) // not an error: the names do not depend on it
	} else {
		defer stack.Close()
		r.DebugStack(env, stack)
		name = stack.Info().Name
		can := newAbilities(name, listing.Probe(ctx, stack))
		for i, t := range r.chosen {
			can.fill(&list.Algorithms[i], t)
		}
	}
	list.Head = output.NewHead(name)
	if r.bench {
		speeds, err := measure(ctx, r.chosen, r.now)
		if err != nil {
			return fmt.Errorf("--bench: %w", err)
		}
		for i := range speeds {
			list.Algorithms[i].Speeds = speeds[i]
		}
	}
	if r.JSON {
		return output.Print(env, list)
	}
	return cli.Print(env, func(w io.Writer) error { return write(w, &list, r.bench) })
}

// write prints the list for people.
func write(w io.Writer, list *output.AlgsList, bench bool) error {
	for i := range list.Algorithms {
		writeAlgorithm(w, list.Stack, &list.Algorithms[i])
	}
	if bench {
		fmt.Fprintf(w, "The speed was measured on this machine, on one processor, with packets of %d bytes and the code of stack user.\n", packetSize)
	}
	if list.Problem != "" {
		fmt.Fprintf(w, "no stack: %s\n", list.Problem)
	}
	return nil
}

func writeAlgorithm(w io.Writer, stack string, a *output.Algorithm) {
	fmt.Fprintf(w, "%s: %s, %s, %s, number %d in PF_KEY\n", a.Word, a.Title, a.Source(), a.Kind, a.PFKeyNumber)
	fmt.Fprintf(w, "    names: %s\n", strings.Join(a.Names, ", "))
	elsewhere := "listings " + a.ListingName
	for _, n := range [...]struct{ program, name string }{{"Linux", a.KernelName}, {"setkey", a.SetkeyName}, {"Wireshark", a.WiresharkName}} {
		if n.name != "" {
			elsewhere += ", " + n.program + " " + n.name
		}
	}
	fmt.Fprintf(w, "    elsewhere: %s\n", elsewhere)
	sizes := []string{keySize(a)}
	for _, s := range [...]struct {
		what string
		bits int
	}{{"IV", a.IVBits}, {"block", a.BlockBits}, {"ICV", a.ICVBits}, {"hash", a.HashBits}} {
		if s.bits > 0 {
			sizes = append(sizes, fmt.Sprintf("%s %d bits", s.what, s.bits))
		}
	}
	fmt.Fprintf(w, "    sizes: %s\n", strings.Join(sizes, ", "))
	switch {
	case stack == "":
	case a.Available == yes:
		fmt.Fprintf(w, "    here: stack %s has it\n", stack)
	case a.Available == no:
		fmt.Fprintf(w, "    here: stack %s lacks it: %s\n", stack, a.Missing)
	default:
		fmt.Fprintf(w, "    here: what stack %s has is not known: %s\n", stack, a.Missing)
	}
	for _, l := range a.Limits {
		fmt.Fprintf(w, "    but not %s: %s\n", l.Name, l.Missing)
	}
	for _, s := range a.Speeds {
		key := ""
		if len(a.KeyBits) > 1 {
			key = fmt.Sprintf(" with a key of %d bits", s.KeyBits-a.SaltBits)
		}
		fmt.Fprintf(w, "    speed%s: %d MB/s sent, %d MB/s received\n", key, s.SendMegabytesPerSecond, s.ReceiveMegabytesPerSecond)
	}
}

// keySize returns the lengths that keys can have.
func keySize(a *output.Algorithm) string {
	if len(a.KeyBits) == 0 {
		return "no key"
	}
	var lengths []string
	for _, bits := range a.KeyBits {
		lengths = append(lengths, strconv.Itoa(bits-a.SaltBits))
	}
	last := len(lengths) - 1
	text := lengths[last]
	if last > 0 {
		text = strings.Join(lengths[:last], ", ") + " or " + text
	}
	if a.SaltBits > 0 {
		return fmt.Sprintf("key %s bits and %d bits of salt", text, a.SaltBits)
	}
	return "key " + text + " bits"
}
