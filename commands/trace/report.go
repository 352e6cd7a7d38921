package trace

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/hints"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
	"github.com/klips-go/ipsec/klips/trace"
	"github.com/klips-go/ipsec/klips/user/mss"
	"github.com/klips-go/ipsec/klips/user/overhead"
)

// write prints an answer: the verdict and its cause in the first line, then what it follows
// from, then what to do.
func (f *facts) write(w io.Writer, a answer) error {
	reason := ""
	if a.reason != "" {
		reason = " [" + a.reason + "]"
	}
	fmt.Fprintf(w, "%s: %s: %s%s\n", a.verdict, describe(f.flow), a.cause, reason)
	line := func(name, text string) { fmt.Fprintf(w, "  %-8s %s\n", name, text) }
	switch {
	case f.forwarded && f.arrives != "":
		line("arrives", "by "+f.arrives)
	case f.flow.Inbound && f.arrives != "":
		line("arrives", "through "+f.arrives)
	}
	line("route", f.way.String())
	for i, leg := range f.decision.Legs {
		line("eroute", f.eroute(leg))
		if i == 0 {
			for _, text := range f.wider(leg) {
				line("", text)
			}
		}
		adds := f.adds(i, leg)
		for j, id := range slices.Backward(leg.SAs) { // as on the wire, the outermost first
			line("SA", f.sa(id)+adds[j])
		}
	}
	for _, adm := range f.decision.Admissions {
		text := "admits it"
		if adm.Reason != "" {
			text = "drops it: " + hints.Meaning(adm.Reason)
		}
		line("group", klips.JoinSAIDs(adm.SAs)+" "+text)
		for _, id := range adm.SAs {
			line("SA", f.sa(id))
		}
	}
	if d := f.decision; d.MTU != 0 && d.Longest != 0 {
		longest, what := d.Longest, fmt.Sprintf("the MTU %d of the way", d.MTU)
		if f.flow.Device != "" && f.way.mtu != 0 && f.way.mtu < longest {
			longest, what = f.way.mtu, "the MTU of "+f.way.device
		}
		text := fmt.Sprintf("%d bytes; up to %d fit into %s (TCP: MSS %d)", f.flow.Length, longest, what, longest-f.plain().Header-mss.HeaderLen)
		if f.flow.Length > longest && a.verdict != dropped {
			text += "; this one is fragmented, or if that is forbidden (DF, IPv6), its sender gets an ICMP error"
		}
		line("size", text)
	}
	if f.peer.to.IsValid() {
		line("peer", f.peer.String()+f.neighbour())
	}
	for i, text := range f.tables.Foreign {
		if i == maxHints {
			line("foreign", fmt.Sprintf("and %d more; ipsec look lists them", len(f.tables.Foreign)-i))
			break
		}
		line("foreign", text)
	}
	for _, text := range a.next {
		line("next", text)
	}
	return nil
}

// adds returns in words how many bytes each SA of the first leg adds to the packet.
func (f *facts) adds(i int, leg klips.Leg) []string {
	l := make([]string, len(leg.SAs))
	group := f.growths(leg)
	if i > 0 || group == nil {
		return l
	}
	layers, _ := overhead.Layers(f.plain(), group)
	for j, layer := range layers {
		l[j] = fmt.Sprintf(", adds %d bytes", layer.Total())
	}
	return l
}

// String returns the way in words.
func (w way) String() string {
	switch {
	case w.err != nil:
		return fmt.Sprintf("none to %v: %v", w.to, w.err)
	case w.here:
		return fmt.Sprintf("%v is this host", w.to)
	}
	text := fmt.Sprintf("%v by %s", w.to, w.device)
	if w.gateway.IsValid() {
		text += fmt.Sprintf(" via %v", w.gateway)
	}
	if w.src.IsValid() {
		text += fmt.Sprintf(" from %v", w.src)
	}
	if w.table != 0 && w.table != 254 { // RT_TABLE_MAIN
		text += fmt.Sprintf(", table %d", w.table)
	}
	return fmt.Sprintf("%s, MTU %d", text, w.mtu)
}

// neighbour returns what is known about the next host on the way to the peer.
func (f *facts) neighbour() string {
	switch {
	case f.peer.err != nil, f.peer.neighbour:
		return ""
	}
	return "; its neighbour on the link is not known yet"
}

// eroute returns a leg in words.
func (f *facts) eroute(leg klips.Leg) string {
	text := fmt.Sprintf("%v => %v", leg.Eroute, leg.Target)
	for _, e := range f.tables.Eroutes {
		if e.Selector == leg.Eroute {
			text += fmt.Sprintf(", %d packets", e.Packets)
			if len(e.Also) > 0 {
				text += ", spread over " + klips.JoinSAIDs(e.SAIDs())
				if !trace.ByFlow(f.stack) {
					text += " by the processor that sends them"
				}
			}
		}
	}
	return text
}

// wider returns the other eroutes that would take the packet.
func (f *facts) wider(leg klips.Leg) (l []string) {
	for _, e := range f.tables.Eroutes {
		if e.Selector != leg.Eroute && hints.Matches(e.Selector, f.flow) && len(l) < maxHints {
			l = append(l, fmt.Sprintf("before %v => %v, which is wider", e.Selector, e.ID))
		}
	}
	return l
}

// sa returns an SA in words.
func (f *facts) sa(id klips.SAID) string {
	if sa := f.findSA(id); sa != nil {
		return describeSA(sa)
	}
	return id.String() + " does not exist"
}

func describeSA(sa *klips.SA) string {
	l := []string{sa.ID.String()}
	name, ok := "", false
	switch sa.ID.Proto {
	case klips.ProtoESP:
		name, ok = syntax.ESPName(sa.Transform, sa.EncKeyBits)
	case klips.ProtoAH:
		name, ok = syntax.AHName(sa.Transform.Auth)
	}
	if ok {
		l = append(l, name)
	}
	states := [...]string{"without keys", "mature", "dying: a soft lifetime limit has passed", "dead"}
	if int(sa.State) < len(states) {
		l = append(l, states[sa.State])
	}
	l = append(l, fmt.Sprintf("%d packets", sa.Life.Packets.Count))
	if sa.ID.Proto == klips.ProtoESP || sa.ID.Proto == klips.ProtoAH {
		l = append(l, fmt.Sprintf("number %d", sa.Seq))
		switch {
		case sa.Window != 0:
			l = append(l, fmt.Sprintf("window %d", sa.Window))
		case sa.Dir.Receives():
			l = append(l, "replay off")
		}
	}
	for _, c := range []struct {
		what string
		klips.Counter
	}{{"s", sa.Life.AddTime}, {"s in use", sa.Life.UseTime}, {"bytes", sa.Life.Bytes}, {"packets", sa.Life.Packets}} {
		if c.Hard != 0 {
			l = append(l, fmt.Sprintf("ends after %d of %d %s", c.Count, c.Hard, c.what))
		}
	}
	if sa.Policy != nil {
		l = append(l, "admits "+sa.Policy.String())
	}
	drops := sa.DropCounts()
	for _, word := range slices.Sorted(maps.Keys(drops)) {
		l = append(l, fmt.Sprintf("%d dropped: %s", drops[word], word))
	}
	return strings.Join(l, ", ")
}

// json returns the answer for programs.
func (f *facts) json(a answer) output.TraceList {
	t := output.Trace{
		Verdict: string(a.verdict), Reason: a.reason, Cause: a.cause, Next: a.next,
		Source: f.flow.Src, Destination: f.flow.Dst, TransportProtocol: f.flow.Proto, SourcePort: f.flow.SrcPort, DestinationPort: f.flow.DstPort,
		LengthBytes: f.flow.Length, Inbound: f.flow.Inbound, Forwarded: f.forwarded, ArrivesBy: f.arrives,
		RouteDevice: f.way.device, RouteGateway: f.way.gateway,
		WayMTUBytes: f.decision.MTU, LongestBytes: f.decision.Longest, Peer: f.peer.to,
	}
	for _, leg := range f.decision.Legs {
		t.Eroutes = append(t.Eroutes, output.NewTraceLeg(leg))
	}
	for _, adm := range f.decision.Admissions {
		t.Admissions = append(t.Admissions, output.NewAdmission(adm))
	}
	return output.TraceList{Head: output.NewHead(f.stack), Answers: []output.Trace{t}}
}
