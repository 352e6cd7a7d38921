package guard

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
)

// A Flow is a set of packets with a rule in the table.
type Flow struct {
	klips.Selector
	// In: packets that arrive; else packets that leave. The selector has the packets'
	// own source and destination in both cases.
	In bool
	// Pass: packets may pass in clear; else they must not.
	Pass bool
	// ByHand: no named connection requests it, only an eroute or an inbound policy that
	// was set by hand.
	ByHand bool
}

// Rules are the rules of the table. The zero value means no table.
type Rules struct {
	Flows []Flow
	// Peers are the remote ends of SAs, to which protected packets go.
	Peers []netip.Addr
	// Ports are this host's UDP ports for encapsulated ESP, besides those of IKE (500
	// and 4500, which are always included).
	Ports []uint16
	// Hide: ICMP errors that quote a packet which came protected must not leave in
	// clear.
	Hide bool
}

// The ports of IKE and of ESP in UDP (RFC 7296 sections 2 and 2.23).
var alwaysPorts = [...]uint16{500, 4500}

// Empty reports whether there is nothing to do. Then there is no table.
func (r Rules) Empty() bool { return !r.Hide && !r.Closes() }

// Reports reports whether counters have something to report: a flow is guarded, or an
// ICMP error was dropped.
func (r Rules) Reports(n Counters) bool { return r.Closes() || n.Quotes > 0 }

// Closes reports whether there is a flow that must not pass in clear.
func (r Rules) Closes() bool {
	return slices.ContainsFunc(r.Flows, func(f Flow) bool { return !f.Pass })
}

// Normal returns the rules in the form of the table: sorted, without duplicates,
// without flows that have no effect. Equal rules make equal tables.
func (r Rules) Normal() Rules {
	if !r.Closes() {
		return Rules{Hide: r.Hide}
	}
	n := Rules{Flows: slices.Clone(r.Flows), Peers: slices.Clone(r.Peers), Ports: append(alwaysPorts[:], r.Ports...), Hide: r.Hide}
	n.Flows = append(n.Flows, within(n.Flows)...)
	n.Flows = slices.DeleteFunc(n.Flows, func(f Flow) bool { return f.Pass && !mayPass(f, r.Flows) })
	arrange.Sort(n.Flows, compareFlows)
	n.Flows = slices.Compact(n.Flows)
	n.Peers = slices.DeleteFunc(n.Peers, func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() })
	arrange.Sort(n.Peers, netip.Addr.Compare)
	n.Peers = slices.Compact(n.Peers)
	slices.Sort(n.Ports)
	n.Ports = slices.Compact(n.Ports)
	return n
}

// within returns flows that pass without a request. If the far side is everything, as
// 0.0.0.0/0, it includes the near side; packets within the near side are not for a
// peer.
func within(flows []Flow) (pass []Flow) {
	for _, f := range flows {
		near, far := f.Src, f.Dst
		if f.In {
			near, far = far, near
		}
		if !f.Pass && far.Bits() < near.Bits() && far.Contains(near.Addr()) {
			pass = append(pass, Flow{Selector: klips.Selector{Src: near, Dst: near}, In: f.In, Pass: true})
		}
	}
	return pass
}

// mayPass reports whether a passing flow has an effect, and cannot open what must stay
// closed. It opens a part of a wider closed flow. If it is wider than a closed flow,
// that one has the longer prefixes, so its rule comes first. If the two only overlap,
// neither rule comes first by its prefixes, so the passing flow is left out.
func mayPass(pass Flow, flows []Flow) bool {
	narrower := false
	for _, f := range flows {
		if f.Pass || f.In != pass.In || !f.Overlaps(pass.Selector) {
			continue
		}
		switch {
		case pass.Within(f.Selector):
			narrower = true
		case !f.Within(pass.Selector):
			return false
		}
	}
	return narrower
}

// Close adds a guarded flow, and reports whether it was guarded before.
func (r *Rules) Close(g klips.Guard) (was bool) {
	was = true
	add := func(f Flow) {
		if !slices.Contains(r.Flows, f) {
			r.Flows = append(r.Flows, f)
			was = false
		}
	}
	add(Flow{Selector: g.Selector})
	if g.In {
		add(Flow{Selector: g.Selector.Reverse(), In: true})
	}
	if g.Peer.IsValid() && !slices.Contains(r.Peers, g.Peer) {
		r.Peers = append(r.Peers, g.Peer)
	}
	return was
}

// Open removes a flow added by Close, and reports whether it was guarded.
func (r *Rules) Open(s klips.Selector) (was bool) {
	n := len(r.Flows)
	r.Flows = slices.DeleteFunc(r.Flows, func(f Flow) bool {
		return f == Flow{Selector: s} || f == Flow{Selector: s.Reverse(), In: true}
	})
	return len(r.Flows) < n
}

// Clone returns a copy that shares nothing with the rules.
func (r Rules) Clone() Rules {
	r.Flows, r.Peers, r.Ports = slices.Clone(r.Flows), slices.Clone(r.Peers), slices.Clone(r.Ports)
	return r
}

// ByHand replaces the flows closed by hand with those that eroutes and inbound policies
// set by hand protect. out: include eroutes.
func (r *Rules) ByHand(out bool, eroutes []klips.Eroute, policies []klips.Selector) {
	r.Flows = slices.DeleteFunc(r.Flows, func(f Flow) bool { return f.ByHand })
	for _, e := range eroutes {
		if out && e.ID != klips.Magic(klips.SPIPass) {
			r.Flows = append(r.Flows, Flow{Selector: e.Selector, ByHand: true})
		}
	}
	for _, s := range policies {
		r.Flows = append(r.Flows, Flow{Selector: s, In: true, ByHand: true})
	}
}

// SetPass replaces the flows that pass with those of the eroutes to %pass, in both
// directions.
func (r *Rules) SetPass(eroutes []klips.Eroute) {
	r.Flows = slices.DeleteFunc(r.Flows, func(f Flow) bool { return f.Pass })
	for _, e := range eroutes {
		if e.ID == klips.Magic(klips.SPIPass) {
			r.Flows = append(r.Flows,
				Flow{Selector: e.Selector, Pass: true},
				Flow{Selector: e.Selector.Reverse(), In: true, Pass: true})
		}
	}
}

func compareFlows(a, b Flow) int {
	return cmp.Or(
		compareBool(a.In, b.In), compareBool(a.Pass, b.Pass), compareBool(a.ByHand, b.ByHand),
		klips.CompareSelectors(a.Selector, b.Selector),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
