package metrics

import (
	"io"
	"maps"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/openmetrics"
	"github.com/klips-go/ipsec/klips/drop"
)

// write writes all metrics. An error is that of the stack or that of the output; without the
// end that only a whole text has, no program takes a part of it for all.
func (t *tables) write(out io.Writer, form openmetrics.Form) error {
	w := openmetrics.NewWriter(out, form)
	t.writeStack(w)
	for _, f := range deviceFamilies() {
		w.Begin(f.Family)
		for i := range t.devices {
			f.add(w, &t.devices[i])
		}
	}
	if err := writeRows(w, &t.eroutes, erouteFamilies()); err != nil {
		return err
	}
	if err := writeRows(w, &t.sas, saFamilies()); err != nil {
		return err
	}
	if err := t.writeNumbers(w); err != nil {
		return err
	}
	return w.End()
}

// A family is a family, and how the samples of one object are written.
type family[T any] struct {
	openmetrics.Family
	add func(w *openmetrics.Writer, object *T)
}

func writeRows[T, R any](w *openmetrics.Writer, r *rows[T, R], families []family[R]) error {
	for _, f := range families {
		w.Begin(f.Family)
		if err := r.each(func(row *R) { f.add(w, row) }); err != nil {
			return err
		}
		if w.Err() != nil {
			return w.Err() // nobody reads the rest
		}
	}
	return nil
}

// writeDrops writes the dropped packets of an object by reason.
func writeDrops(w *openmetrics.Writer, c drop.Counts, labels ...openmetrics.Label) {
	for _, reason := range slices.Sorted(maps.Keys(c)) {
		w.Sample(c[reason], append(labels, openmetrics.Label{Name: "reason", Value: reason})...)
	}
}
