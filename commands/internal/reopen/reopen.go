// Package reopen opens the stack again and again, for commands that outlive a daemon.
package reopen

import (
	"context"
	"fmt"
	"sync"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
)

// An Opener opens the stack of an environment. When a daemon ends, another stack may be the
// first one that is there; the Opener never takes that for the one that it has opened first.
// Several goroutines may use it.
type Opener struct {
	env *cli.Env

	mu   sync.Mutex
	name string // of the first stack; empty: none was there yet
}

// New returns an Opener.
func New(env *cli.Env) *Opener { return &Opener{env: env} }

// Open opens the stack. The caller closes it.
func (o *Opener) Open(ctx context.Context) (klips.Stack, error) {
	s, err := o.env.Stack(ctx)
	if err != nil {
		return nil, err
	}
	name := s.Info().Name
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.name {
	case "":
		o.name = name
	case name:
	default:
		s.Close()
		return nil, fmt.Errorf("stack %s has gone; start it again, or restart this command for stack %s", o.name, name)
	}
	return s, nil
}
