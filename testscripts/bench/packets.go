package main

import (
	"context"
	"fmt"
	"os"
)

// packets measures the contenders in turn, row by row, round by round. After an error it
// returns the series of the rounds before.
func packets(ctx context.Context, o *options) ([]series, error) {
	r := &rig{ctx: ctx, ipsec: o.ipsec}
	defer r.Close()
	if err := r.open(o.contenders); err != nil {
		return nil, err
	}
	var got []round
	for n := range o.rounds {
		fmt.Fprintf(os.Stderr, "bench: round %d of %d\n", n+1, o.rounds)
		v := round{}
		for _, row := range o.rows {
			for _, w := range r.ways {
				if err := r.measure(v, row, w, o, got); err != nil {
					return collect(o.rows, r.ways, got), fmt.Errorf("%s, %s: %w", w.name, row.title, err)
				}
				if ctx.Err() != nil {
					return collect(o.rows, r.ways, got), ctx.Err()
				}
			}
		}
		got = append(got, v)
	}
	return collect(o.rows, r.ways, got), nil
}

// A cell is the place of a value: the words of a row and of a contender.
type cell struct{ row, contender string }

// A round is what was measured in one round.
type round map[cell]float64

// collect makes the series of all rounds. A contender that has no value in a row, because
// it has no daemon, has no series there.
func collect(rows []row, ways []openWay, rounds []round) (all []series) {
	for _, row := range rows {
		base := values(rounds, cell{row.key, baseline})
		for _, w := range ways {
			s := series{Row: row.key, Title: row.title, Unit: row.unit, Contender: w.key, Name: w.contender.name,
				Rounds: values(rounds, cell{row.key, w.key})}
			if len(s.Rounds) > 0 {
				s.summarize(base)
				all = append(all, s)
			}
		}
	}
	return all
}

func values(rounds []round, c cell) (v []float64) {
	for _, r := range rounds {
		if x, ok := r[c]; ok {
			v = append(v, x)
		}
	}
	return v
}
