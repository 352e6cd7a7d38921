package main

import (
	"fmt"
	"io"
)

// printTable prints the series of each row below its title.
func printTable(w io.Writer, all []series) {
	for i, s := range all {
		if i == 0 {
			fmt.Fprintf(w, "\n%-54s %9s %9s %9s %15s\n", "", "median", "min", "max", "x wireguard-go")
		}
		if i == 0 || s.Row != all[i-1].Row {
			fmt.Fprintf(w, "%s, %s\n", s.Title, s.Unit)
		}
		ratio := ""
		if s.Ratio != nil {
			ratio = fmt.Sprintf("%15.2f", *s.Ratio)
		}
		fmt.Fprintf(w, "  %-52s %9s %9s %9s%s\n", s.Name, digits(s.Median), digits(s.Min), digits(s.Max), pad(ratio))
	}
	if len(all) > 0 {
		fmt.Fprintln(w)
	}
}

// pad sets a blank before a column that is not empty.
func pad(column string) string {
	if column == "" {
		return ""
	}
	return " " + column
}

// digits writes a value with three digits that count, or all those before the point.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1 || v == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
