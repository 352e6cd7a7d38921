package setup

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips/guard"
)

// guarded are the networks that packets do not leave for in clear, wherever the routes
// lead. What cannot be read is missed: the stop says it, too.
func guarded() (l []netip.Prefix) {
	l, _ = routes.Backstops()
	r, _ := guard.Read()
	for _, f := range r.Flows {
		if !f.In && !f.Pass && !slices.Contains(l, f.Dst) {
			l = append(l, f.Dst)
		}
	}
	return l
}

// writeUnprotected writes what was dropped because it was in clear, where flows are
// guarded.
func writeUnprotected(w io.Writer, n *guard.Counters) {
	if n != nil {
		fmt.Fprintf(w, "dropped in clear: %d packets about to leave, %d that arrived\n", n.Out, n.In)
	}
}

// openAll ends what keeps flows from passing in clear when the stack is not there:
// the packet filter and the unreachable routes. A stop is asked for, so it opens. What
// follows the default route is forgotten.
func openAll(rundir string) error {
	err := guard.Remove()
	if err != nil {
		err = fmt.Errorf("the table inet klips of nftables stays: %w; remove it with: nft delete table inet klips", err)
	}
	stops, lerr := routes.Backstops()
	errs := []error{err, lerr, followed.Forget(rundir)}
	for _, dst := range stops {
		if err := routes.RemoveBackstop(dst); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("the unreachable route to %v stays: %w", dst, err))
		}
	}
	return errors.Join(errs...)
}
