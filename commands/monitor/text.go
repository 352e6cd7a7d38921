package monitor

import (
	"fmt"
	"io"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/hints"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/watch"
)

// describe returns an event as a line: time, kind, what it is about.
func describe(e watch.Event) string {
	l := []string{e.Time.UTC().Format("15:04:05.000Z"), e.Kind.String()}
	if e.SA.SPI != 0 {
		l = append(l, e.SA.String())
	}
	if e.Device != "" {
		l = append(l, e.Device)
	}
	switch e.Kind {
	case watch.ErouteMade, watch.ErouteChanged, watch.ErouteRemoved:
		l = append(l, fmt.Sprintf("%v => %v", e.Eroute, e.Target))
	case watch.PolicyChanged:
		if e.Eroute == (klips.Selector{}) {
			l = append(l, "none")
			break
		}
		l = append(l, e.Eroute.String())
	case watch.Acquire:
		l = append(l, e.Eroute.String())
	case watch.Attached, watch.Detached:
		l = append(l, e.Physical)
	case watch.SequenceHigh:
		l = append(l, fmt.Sprintf("its sequence number is %d: make a new SA before the numbers end", e.Count))
	case watch.PeerMoved:
		l = append(l, fmt.Sprintf("from %v to %v", e.From, e.To))
	case watch.Dropped:
		l = append(l, fmt.Sprintf("%s %d: %s", e.Reason, e.Count, hints.Meaning(e.Reason)))
	}
	return strings.Join(l, " ")
}

// writeJSON prints an event as one line.
func writeJSON(w io.Writer, stack string, e watch.Event) error {
	r := output.Event{
		Time: e.Time, Event: e.Kind.String(), Device: e.Device, Physical: e.Physical, Reason: e.Reason, Polled: e.Polled,
	}
	if e.SA.SPI != 0 {
		r.SAID = e.SA.String()
	}
	if e.Eroute != (klips.Selector{}) {
		r.Flow = output.NewFlow(e.Eroute)
	}
	if e.Target.Proto != 0 {
		r.Target = e.Target.String()
	}
	switch e.Kind {
	case watch.Dropped:
		r.Packets = e.Count
	case watch.SequenceHigh:
		r.SequenceNumber = e.Count
	case watch.PeerMoved:
		r.From, r.To = e.From.String(), e.To.String()
	}
	return output.PrintLine(w, output.MonitorList{Head: output.NewHead(stack), Events: []output.Event{r}})
}
