package why

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/ends"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// compare prints how this end and that of a file do not fit together.
func (r *request) compare(ctx context.Context, env *cli.Env) error {
	there, err := r.readPeer(env)
	if err != nil {
		return err
	}
	s, err := env.Stack(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	r.DebugStack(env, s)
	here := &output.Barf{Addresses: ends.Addresses()}
	ends.Read(ctx, s, here, func(what string, err error) {
		cli.Notef(env, "not compared: %s: %s", what, explain.Line(err))
	})
	for _, text := range there.LeftOut {
		cli.Notef(env, "not in %s: %s", quote.File(r.peer), text)
	}
	l := ends.Compare(here, there)
	if r.JSON {
		err = output.Print(env, differences(s.Info().Name, there.Host, l))
	} else {
		err = cli.Print(env, func(w io.Writer) error { return writeDifferences(w, there.Host, l) })
	}
	if err == nil && len(l) > 0 {
		err = &cli.ExitError{Code: cli.ExitFailed}
	}
	return err
}

// readPeer reads the file about the other end.
func (r *request) readPeer(env *cli.Env) (*output.Barf, error) {
	in := env.In
	if r.peer != "-" {
		f, err := os.Open(r.peer)
		if err != nil {
			return nil, quote.FileError(r.peer, err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, ends.MaxSize+1))
	switch {
	case err != nil:
		return nil, quote.FileError(r.peer, err)
	case len(b) > ends.MaxSize:
		return nil, fmt.Errorf("%s: it has more than %d bytes; no output of ipsec barf has", quote.File(r.peer), ends.MaxSize)
	}
	there, err := ends.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; make it on the other end with: ipsec barf >FILE", quote.File(r.peer), err)
	}
	return there, nil
}

// differences returns the list for programs of what does not fit to the end of a host.
func differences(stack, host string, l []output.EndDifference) output.WhyList {
	return output.WhyList{Head: output.NewHead(stack), Reasons: []output.Why{}, Peer: host, Differences: l}
}

// writeDifferences prints what does not fit together.
func writeDifferences(w io.Writer, host string, l []output.EndDifference) error {
	if len(l) == 0 {
		_, err := fmt.Fprintf(w, "both ends fit together, as far as it is known (there: %s)\n", host)
		return err
	}
	for _, d := range l {
		fmt.Fprintf(w, "%s: %s\n  mend     %s\n", d.What, d.Difference, d.Mend)
	}
	return nil
}
