package top

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/klips-go/ipsec/commands/internal/redraw"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
)

// A row is an SA or an eroute with its rate.
type row struct {
	name   string
	detail string // of an SA: direction and state; of an eroute: where its packets go
	count
	rate
	known  bool    // the rate
	used   float64 // share of the sequence numbers, 0 to 1; below 0: it has none
	idle   time.Duration
	unused bool // there is no idle time
}

// A view is the text of one moment.
type view struct {
	host, stack  string
	at           time.Time
	sas, eroutes []row
}

// saRow returns the row of an SA without its rate.
func saRow(sa *klips.SA) row {
	r := row{
		name: sa.ID.String(), detail: fmt.Sprintf("%-4s %-6s", sa.Dir, sa.State), used: -1, idle: sa.Idle, unused: !sa.Used,
		count: count{sa.Life.Packets.Count, sa.Life.Bytes.Count, sa.DropCounts().Total()},
	}
	if limit := sa.MaxSeq(); limit != 0 {
		r.used = float64(sa.Seq) / float64(limit)
	}
	return r
}

// erouteRow returns the row of an eroute without its rate.
func erouteRow(e *klips.Eroute) row {
	name := procfs.FlowEnd(e.Src, e.SrcPort) + " -> " + procfs.FlowEnd(e.Dst, e.DstPort)
	if e.Proto != 0 {
		name += " proto " + strconv.Itoa(int(e.Proto))
	}
	target := e.ID.String()
	if len(e.Also) > 0 {
		target += fmt.Sprintf(" and %d more", len(e.Also))
	}
	return row{name: name, detail: target, count: count{packets: e.Packets}}
}

// sortRows puts the highest rates first. Rows of one rate stay in their order.
func sortRows(rows []row) {
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.rate.bytes, a.rate.bytes), cmp.Compare(b.rate.packets, a.rate.packets), cmp.Compare(b.rate.drops, a.rate.drops))
	})
}

// heads are the lines of a view that are no rows: the first one, an empty one and the
// headings of two tables, and an empty one between them.
const heads = 5

// write writes the view for a terminal of a size.
func (v *view) write(w io.Writer, size redraw.Size) error {
	sas, eroutes := len(v.sas), len(v.eroutes)
	if size.Rows > 0 {
		sas, eroutes = share(max(size.Rows-1-heads, 2), sas, eroutes)
	}
	fmt.Fprintf(w, "%s %s stack %s, SAs: %d, eroutes: %d\n\n", v.host, v.at.Format("15:04:05"), v.stack, len(v.sas), len(v.eroutes))
	width := nameWidth(v.sas, sas)
	fmt.Fprintf(w, "%-*s  DIR  STATE   PACKETS/S  BITS/S  DROPS/S  PACKETS   BYTES  DROPS  SEQUENCE  IDLE\n", width, "SA")
	writeRows(w, v.sas, sas, func(r *row) {
		fmt.Fprintf(w, "%-*s  %s  %9s  %6s  %7s  %7s  %6s  %5s  %8s  %4s\n", width, r.name, r.detail,
			r.perSecond(r.rate.packets), r.perSecond(8*r.rate.bytes), r.perSecond(r.rate.drops),
			short(float64(r.count.packets)), short(float64(r.count.bytes)), short(float64(r.count.drops)), r.sequence(), r.idleTime())
	})
	width = nameWidth(v.eroutes, eroutes)
	fmt.Fprintf(w, "\n%-*s  PACKETS/S  PACKETS  TO\n", width, "EROUTE")
	writeRows(w, v.eroutes, eroutes, func(r *row) {
		fmt.Fprintf(w, "%-*s  %9s  %7s  %s\n", width, r.name, r.perSecond(r.rate.packets), short(float64(r.count.packets)), r.detail)
	})
	return nil
}

// nameWidth returns the width of the first column of so many rows.
func nameWidth(rows []row, lines int) int {
	width := len("EROUTE")
	for _, r := range rows[:min(lines, len(rows))] {
		width = max(width, len(r.name))
	}
	return width
}

// share divides lines among two tables. One that needs less than its part leaves the rest to
// the other; the SAs get two thirds if both need more.
func share(lines, sas, eroutes int) (int, int) {
	if sas+eroutes <= lines {
		return sas, eroutes
	}
	sas = min(sas, max(lines*2/3, lines-eroutes))
	return sas, lines - sas
}

// writeRows writes the first rows, in so many lines. If that is not enough, the last line has
// the number of the others.
func writeRows(w io.Writer, rows []row, lines int, write func(*row)) {
	shown := len(rows)
	if shown > lines {
		shown = max(lines-1, 0)
	}
	for i := range rows[:shown] {
		write(&rows[i])
	}
	if shown < len(rows) {
		fmt.Fprintf(w, "and %d more\n", len(rows)-shown)
	}
}

// perSecond returns a rate as text.
func (r *row) perSecond(v float64) string {
	if !r.known {
		return "-"
	}
	return short(v)
}

// sequence returns the share of the sequence numbers that were used.
func (r *row) sequence() string {
	if r.used < 0 {
		return "-"
	}
	return strconv.FormatFloat(100*r.used, 'f', 1, 64) + "%"
}

// idleTime returns the time since the last packet, in the largest unit that fits.
func (r *row) idleTime() string {
	if r.unused {
		return "-"
	}
	for _, u := range [...]struct {
		d    time.Duration
		unit string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if r.idle >= u.d {
			return strconv.Itoa(int(r.idle/u.d)) + u.unit
		}
	}
	return strconv.Itoa(int(max(r.idle, 0)/time.Second)) + "s"
}

// short returns a number with three digits, and the prefix of its unit above 999: 1.25M. It
// has at most five characters.
func short(v float64) string {
	unit := ""
	for _, next := range [...]string{"k", "M", "G", "T", "P", "E"} {
		if v < 999.5 {
			break
		}
		v, unit = v/1000, next
	}
	digits := 0 // after the point
	switch {
	case v < 9.995:
		digits = 2
	case v < 99.95:
		digits = 1
	}
	if unit == "" && v == float64(int(v)) {
		digits = 0
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + unit
}
