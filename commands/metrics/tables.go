package metrics

import (
	"context"
	"iter"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
)

// A tables has what the metrics of one moment are made of.
type tables struct {
	stack   string // its name
	version string // its version line; empty: it has none
	program string // the version of this program
	sas     rows[klips.SA, sa]
	eroutes rows[klips.Eroute, eroute]
	devices []klips.Device
	drops   drop.Counts // of packets that belong to no device
	kernel  []klips.KernelDrops
	unread  []klips.UnreadLine
}

// read reads the tables of a stack, except those that can be long: these are read when they
// are written.
func read(ctx context.Context, s klips.Stack, program string) (*tables, error) {
	t := &tables{
		stack: s.Info().Name, program: program,
		sas:     rows[klips.SA, sa]{read: explained("SAs", klips.SAParts(ctx, s)), row: newSA, keep: kept},
		eroutes: rows[klips.Eroute, eroute]{read: explained("eroutes", klips.ErouteParts(ctx, s)), row: newEroute, keep: kept},
	}
	want := klips.Want{Version: true, Devices: true, Drops: true, KernelDrops: true}
	if s.Info().Has(klips.CapText) {
		want.Unread = klips.TextTables[:]
	}
	read, err := s.Snapshot(ctx, want)
	if err != nil {
		return nil, explain.Listing("metrics", err)
	}
	t.version, t.devices, t.drops, t.kernel, t.unread = read.Version, read.Devices, read.Drops, read.KernelDrops, read.Unread
	return t, nil
}

// A readError is the error of reading a table, in words and in contrast to errors of the
// output.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// explained adds words to the errors of reading a table.
func explained[T any](what string, parts iter.Seq2[[]T, error]) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		for part, err := range parts {
			if err != nil {
				err = &readError{explain.Listing(what, err)}
			}
			if !yield(part, err) {
				return
			}
		}
	}
}
