package setup

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/internal/sysctls"
	"github.com/klips-go/ipsec/klips/clamp"
	"github.com/klips-go/ipsec/klips/guard"
)

// guarded returns the networks to which packets never leave in clear, on any route. If
// they cannot be read the list is incomplete; the stop itself then reports the error.
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

// writeUnprotected prints how many packets were dropped because they were in clear.
func writeUnprotected(w io.Writer, n *guard.Counters) {
	if n != nil {
		fmt.Fprintf(w, "dropped in clear: %d packets about to leave, %d that arrived", n.Out, n.In)
		if n.Quotes > 0 {
			fmt.Fprintf(w, ", %d ICMP errors about protected packets", n.Quotes)
		}
		fmt.Fprintln(w)
	}
}

// openAll removes the packet filter and the unreachable routes that keep flows from
// leaving in clear without a stack. The user has asked for a stop, so it opens the
// flows. It also removes the records of connections, and puts parameters of the kernel back.
func openAll(rundir string) error {
	err := guard.Remove()
	if err != nil {
		err = fmt.Errorf("the table inet klips of nftables stays: %w; remove it with: nft delete table inet klips", err)
	}
	stops, lerr := routes.Backstops()
	errs := []error{err, lerr, clamp.RemoveAll(), followed.Forget(rundir), made.Forget(rundir), sysctls.PutBack(rundir)}
	for _, dst := range stops {
		if err := routes.RemoveBackstop(dst); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("the unreachable route to %v stays: %w", dst, err))
		}
	}
	return errors.Join(errs...)
}
