// Package sakeys asks a stack for the keys of SAs, for commands that show them on request.
package sakeys

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
)

// Read gives the SAs of a Config their keys, which the caller clears with [render.Config.Clear].
// It returns the number of SAs whose keys the stack does not give, which notes name.
func Read(ctx context.Context, env *cli.Env, s klips.Stack, c *render.Config) (missing int, err error) {
	for _, sa := range c.SAs() {
		if sa.EncKeyBits+sa.AuthKeyBits == 0 {
			continue
		}
		k, err := klips.ReadKeys(ctx, s, sa.ID)
		switch {
		case errors.Is(err, syscall.EOPNOTSUPP):
			missing++
			cli.Notef(env, "the keys of %s are missing: this stack gives no keys; write them in place of %s", sa.ID, render.NotShown)
			continue
		case errors.Is(err, syscall.EACCES):
			missing++
			cli.Notef(env, "the keys of %s are missing: %s; write them in place of %s", sa.ID, explain.Line(err), render.NotShown)
			continue
		case err != nil:
			return missing, fmt.Errorf("the keys of %s are not given: %s", sa.ID, explain.Line(err))
		}
		sa.EncKey, sa.AuthKey = k.EncKey, k.AuthKey
		if 8*len(k.EncKey) != sa.EncKeyBits || 8*len(k.AuthKey) != sa.AuthKeyBits {
			return missing, fmt.Errorf("the keys of %s do not have the length that is listed; it was made anew meanwhile, so try again", sa.ID)
		}
	}
	return missing, nil
}
