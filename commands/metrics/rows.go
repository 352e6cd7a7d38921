package metrics

import "iter"

// A rows is a table of a stack, which is needed once for each family: OpenMetrics does not
// allow families to be interleaved. A table of at most keep rows is read once and kept, so
// that all families show the same moment. A longer one is read again for each family, so
// that the memory does not grow with it.
type rows[T, R any] struct {
	// read reads the parts of the table, as often as it is called. Each is valid until the
	// next one.
	read iter.Seq2[[]T, error]
	// row returns what is kept of a record, which is independent of its part.
	row  func(*T) R
	keep int

	kept [][]R // by parts: one long list would be copied while it grows
	size size
}

// A size is how much of a table was kept.
type size uint8

const (
	unknown size = iota // it was not read yet
	short               // all of it
	long                // nothing
)

// kept is the number of rows that are kept of a table, each with a quarter of a kilobyte.
const kept = 1 << 17

// each calls f for each row, in the order of the table.
func (r *rows[T, R]) each(f func(*R)) error {
	if r.size == short {
		for _, part := range r.kept {
			for i := range part {
				f(&part[i])
			}
		}
		return nil
	}
	n := 0
	for part, err := range r.read {
		if err != nil {
			return err
		}
		rows := make([]R, len(part))
		for i := range part {
			rows[i] = r.row(&part[i])
			f(&rows[i])
		}
		switch n += len(part); {
		case n > r.keep:
			r.kept, r.size = nil, long
		case r.size == unknown:
			r.kept = append(r.kept, rows)
		}
	}
	if r.size == unknown {
		r.size = short
	}
	return nil
}
