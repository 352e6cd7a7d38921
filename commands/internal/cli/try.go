package cli

import (
	"context"
	"errors"
	"io"

	"github.com/klips-go/ipsec/klips"
)

// errAsked ends the trial of an applet when its arguments have been accepted.
var errAsked = errors.New("the stack was asked for")

// Try has an applet read its arguments, and the files that they name, and
// changes nothing: it ends where the applet asks for its stack. What the applet
// prints is dropped; there is no standard input. env gets the label of the
// arguments, for the message. A nil error means that the arguments are right.
func Try(ctx context.Context, env *Env, app *App, args []string) error {
	trial := *env
	trial.In, trial.Out, trial.Err = nil, io.Discard, io.Discard
	trial.Stack = func(context.Context) (klips.Stack, error) { return nil, errAsked }
	err := app.Run(ctx, &trial, args)
	env.Name = trial.Name
	if errors.Is(err, errAsked) {
		return nil
	}
	return err
}
