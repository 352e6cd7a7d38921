package metrics

import (
	"slices"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/openmetrics"
	"github.com/klips-go/ipsec/klips"
)

// An eroute has what the metrics of an eroute need.
type eroute struct {
	klips.Selector
	id      klips.SAID
	also    []klips.SAID
	packets uint64
}

func newEroute(e *klips.Eroute) eroute {
	return eroute{e.Selector, e.ID, slices.Clone(e.Also), e.Packets}
}

// erouteFamilies returns the families of eroutes.
func erouteFamilies() []family[eroute] {
	return []family[eroute]{
		{openmetrics.Family{Name: "ipsec_eroute", Type: openmetrics.Info, Help: "An eroute: which packets it takes, and the security association or the action for them."},
			func(w *openmetrics.Writer, e *eroute) { w.Sample(1, append(flow(&e.Selector), target(e)...)...) }},
		{openmetrics.Family{Name: "ipsec_eroute_packets", Type: openmetrics.Counter, Help: "Packets that the eroute has taken."},
			func(w *openmetrics.Writer, e *eroute) { w.Sample(e.packets, flow(&e.Selector)...) }},
	}
}

// flow returns the labels for a selector. A part that selects all packets has no label.
func flow(s *klips.Selector) []openmetrics.Label {
	number := func(n uint16) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(int(n))
	}
	return append(make([]openmetrics.Label, 0, 8),
		openmetrics.Label{Name: "source", Value: s.Src.String()},
		openmetrics.Label{Name: "destination", Value: s.Dst.String()},
		openmetrics.Label{Name: "transport_protocol", Value: number(uint16(s.Proto))},
		openmetrics.Label{Name: "source_port", Value: number(s.SrcPort)},
		openmetrics.Label{Name: "destination_port", Value: number(s.DstPort)})
}

// target returns the labels for where an eroute sends its packets. They are not those of its
// counters, which continue when an eroute is replaced.
func target(e *eroute) []openmetrics.Label {
	said := e.id.String()
	action, shunt := strings.CutPrefix(said, "%")
	if !shunt {
		action = "protect"
	}
	also := make([]string, len(e.also))
	for i, id := range e.also {
		also[i] = id.String()
	}
	return []openmetrics.Label{{Name: "action", Value: action}, {Name: "said", Value: said}, {Name: "also", Value: strings.Join(also, " ")}}
}
