package guard

import (
	"errors"
	"io/fs"
)

// Change changes the table for a stack that has no process which keeps it: f changes
// the rules that the table has now. Callers take turns by klips/netlock. The error is
// that of f, or as with [Table.Set].
func Change(f func(r *Rules) error) error {
	t, err := Open()
	if err != nil {
		return err
	}
	defer t.Close()
	r, err := t.Read()
	if err != nil {
		return err
	}
	if err := f(&r); err != nil {
		return err
	}
	return t.Set(r)
}

// Read returns the rules of the table: none where the kernel has no nftables, or where
// the process may not ask, which then is not the one that would have made a table.
func Read() (r Rules, err error) {
	t, err := Open()
	if err == nil {
		defer t.Close()
		r, err = t.Read()
	}
	return r, unlessNone(err)
}

// ReadCounters reads the counters; ok is false where no flow is guarded.
func ReadCounters() (n Counters, ok bool) {
	t, err := Open()
	if err != nil {
		return n, false
	}
	defer t.Close()
	r, err := t.Read()
	if err != nil || !r.Closes() {
		return n, false
	}
	n, err = t.Counters()
	return n, err == nil
}

// Remove removes the table, if there can be one.
func Remove() error {
	return unlessNone(Change(func(r *Rules) error { *r = Rules{}; return nil }))
}

func unlessNone(err error) error {
	if errors.Is(err, ErrNone) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
