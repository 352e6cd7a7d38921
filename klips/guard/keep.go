package guard

import (
	"errors"
	"io/fs"
)

// Change changes the table for a stack without a process: f changes the current rules
// of the table. Callers take turns by klips/netlock. The error is that of f, or of
// [Table.Set].
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

// Read returns the rules of the table. They are empty if the kernel has no nftables, or
// if the process may not read them; then it cannot have made a table either.
func Read() (r Rules, err error) {
	t, err := Open()
	if err == nil {
		defer t.Close()
		r, err = t.Read()
	}
	return r, unlessNone(err)
}

// ReadCounters reads the counters; ok is false if they have nothing to report.
func ReadCounters() (n Counters, ok bool) {
	t, err := Open()
	if err != nil {
		return n, false
	}
	defer t.Close()
	r, err := t.Read()
	if err == nil {
		n, err = t.Counters()
	}
	return n, err == nil && r.Reports(n)
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
