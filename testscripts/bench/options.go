package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// options are the arguments of the program.
type options struct {
	ipsec string
	json  string // file; "" for none

	parts      []string
	rounds     int
	window     time.Duration // how long a stream is measured, after warmup
	rows       []row
	contenders []contender
}

// parts are the words of -only.
var parts = []string{"packets", "tables", "listing", "start"}

// parse reads the arguments. errors.Is(err, flag.ErrHelp) if they ask for help, which is
// then written to out.
func parse(args []string, out io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.StringVar(&o.ipsec, "ipsec", "bin/ipsec", "the `program` to measure")
	fs.StringVar(&o.json, "json", "", "also write the figures to this `file`")
	only := fs.String("only", "", "measure only these `parts`: "+strings.Join(parts, ","))
	fs.IntVar(&o.rounds, "rounds", 3, "how often packets are measured; medians are printed")
	seconds := fs.Float64("seconds", 1, "how long a stream is measured, after one second of warming up")
	rowWords := fs.String("rows", "", "the `rows` about packets: "+words(rows, row.word))
	contenderWords := fs.String("contenders", "", "the `contenders` in these rows: "+words(contenders, contender.word))
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	var err error
	switch {
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case o.rounds < 1:
		err = fmt.Errorf("-rounds %d: at least one round is needed", o.rounds)
	case !(*seconds >= 0.1 && *seconds <= 600):
		err = fmt.Errorf("-seconds %v is not between 0.1 and 600", *seconds)
	}
	o.window = time.Duration(*seconds * float64(time.Second))
	if err == nil {
		o.parts, err = choose("-only", *only, parts, strings.Clone)
	}
	if err == nil {
		o.rows, err = choose("-rows", *rowWords, rows, row.word)
	}
	if err == nil {
		o.contenders, err = choose("-contenders", *contenderWords, contenders, contender.word)
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

func words[T any](all []T, word func(T) string) string {
	var names []string
	for _, v := range all {
		names = append(names, word(v))
	}
	return strings.Join(names, ",")
}

// choose returns those of all that a list with commas names, in their own order; all of
// them if the list is empty.
func choose[T any](option, list string, all []T, word func(T) string) (chosen []T, err error) {
	if list == "" {
		return all, nil
	}
	want := strings.Split(list, ",")
	for _, v := range all {
		if slices.Contains(want, word(v)) {
			chosen = append(chosen, v)
			want = slices.DeleteFunc(want, func(w string) bool { return w == word(v) })
		}
	}
	if len(want) > 0 {
		return nil, fmt.Errorf("%s: unknown word %q; choose from %s", option, want[0], words(all, word))
	}
	return chosen, nil
}
