package manual

import (
	"context"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/commands/manual/step"
)

// An executor makes the changes of one connection.
type executor struct {
	*step.Runner
	conn *connection
	of   *conf.Conn // where the connection is in its file; nil: in none
}

// newExecutor returns an executor without a plan.
func newExecutor(caller *cli.Env, k *connection, of *conf.Conn, n host.Network, trace bool) *executor {
	return &executor{step.NewRunner(caller, k.name, n, trace), k, of}
}

// keys returns the keys of the SAs of the connection. The caller clears them.
func (x *executor) keys() ([][]byte, error) { return x.Keys(makePlan(x.conn, "up", nil)) }

// takeBack undoes what executors have done, in reverse order.
func takeBack(ctx context.Context, done []*executor) {
	for _, x := range slices.Backward(done) {
		x.TakeBack(context.WithoutCancel(ctx))
	}
}
