package trace

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/hints"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
)

// A verdict is what happens to a packet, as a word.
type verdict string

const (
	protected verdict = "protected"
	admitted  verdict = "admitted"
	clear     verdict = "clear"
	dropped   verdict = "dropped"
	rejected  verdict = "rejected"
	held      verdict = "held"
)

// exit returns the exit status for a verdict.
func (v verdict) exit() int {
	switch v {
	case clear:
		return exitClear
	case dropped, rejected:
		return exitDropped
	case held:
		return exitHeld
	}
	return cli.ExitOK
}

// An answer is the verdict, why, and what to do if it is not the one that is wanted.
type answer struct {
	verdict verdict
	reason  string   // a word of package drop, or of this file; empty: it passes
	cause   string   // in words
	next    []string // commands, or sentences
}

// Reasons that are not the stack's.
const (
	reasonPast       = "past-device" // an eroute takes it, and its route leads past the device
	reasonGuarded    = "guarded"     // a guard closes the flow
	reasonNoRoute    = "no-route"
	reasonNoPeer     = "no-route-to-peer"
	reasonForwarding = "forwarding-off"
	reasonRPFilter   = "rp-filter"
	reasonForeign    = "foreign-policy" // another program decides
	reasonHere       = "own-address"    // an outbound packet is for this host
)

// judge finds the answer.
func (f *facts) judge() answer {
	if f.flow.Inbound {
		return f.judgeIn()
	}
	return f.judgeOut()
}

func (f *facts) judgeOut() answer {
	into := f.wantedDevice()
	switch {
	case f.way.err != nil:
		return f.noWay(into)
	case f.way.here:
		return answer{dropped, reasonHere, fmt.Sprintf("%v is an address of this host, so the packet does not leave it", f.flow.Dst),
			[]string{"what arrives from a tunnel: ipsec trace --in " + hints.Operands(f.flow)}}
	}
	// The kernel asks its policies before the packet enters any device.
	if p := f.foreignPolicy(); p != nil && p.Action != "allow" {
		return p.answer("")
	}
	if f.flow.Device == "" {
		return f.past(into)
	}
	d := f.decision
	switch d.Fate {
	case klips.FateProtect:
		return f.protect()
	case klips.FatePass:
		return answer{verdict: clear, cause: "its eroute is to %pass"}
	case klips.FateBypass:
		return answer{verdict: clear, cause: "it is ESP, AH or IKE of this host to a gateway"}
	case klips.FateHold:
		return answer{held, "", "its eroute is to %hold: it is kept until another eroute takes its place", []string{f.replace(d.Legs[0].Eroute)}}
	case klips.FateTrap:
		return answer{held, "", fmt.Sprintf("its eroute is to %v: key daemons that have registered are asked for an SA; without one it is dropped", d.Legs[0].Target),
			[]string{"ipsec monitor --acquire shows the request", f.replace(d.Legs[0].Eroute)}}
	case klips.FateReject:
		return answer{rejected, d.Reason, hints.Meaning(d.Reason), []string{f.replace(d.Legs[0].Eroute)}}
	}
	return f.refused()
}

// noWay is the answer about a packet that the kernel does not send anywhere.
func (f *facts) noWay(into string) answer {
	switch {
	case f.forwarded && !f.forwarding:
		return f.noForwarding()
	case f.forwarded && (errors.Is(f.way.err, unix.EXDEV) || errors.Is(f.way.err, unix.EINVAL)):
		return f.rpFilter()
	}
	a := answer{dropped, reasonNoRoute, fmt.Sprintf("the kernel has no route to %v (%v)", f.flow.Dst, f.way.err), nil}
	if into != "" {
		a.cause += "; an eroute takes it, but no route leads into " + into
		a.next = []string{f.route(into)}
	}
	return a
}

func (f *facts) noForwarding() answer {
	param := forwardParam(f.flow.Dst)
	return answer{dropped, reasonForwarding, "this host does not forward packets: " + param + " is 0", []string{"sysctl -w " + param + "=1"}}
}

func (f *facts) rpFilter() answer {
	return answer{dropped, reasonRPFilter,
		fmt.Sprintf("the kernel does not expect packets from %v by %s, because its route to there leads elsewhere (rp_filter)", f.flow.Src, f.arrives),
		[]string{"sysctl -w net.ipv4.conf." + f.arrives + ".rp_filter=2", "or a route to the network of " + f.flow.Src.String() + " by " + f.arrives}}
}

// past is the answer about a packet whose route does not lead into a virtual device.
func (f *facts) past(into string) answer {
	leaves := "its route leads to " + f.way.device
	switch {
	case f.forwarded && !f.forwarding:
		return f.noForwarding()
	case f.closed:
		a := answer{dropped, reasonGuarded, leaves + ", and the flow must not leave in clear (a guard drops it)", nil}
		if into != "" {
			a.next = []string{f.route(into)}
		} else {
			a.next = []string{"ipsec status shows the connections; ipsec setup status shows the guards"}
		}
		return a
	case into != "":
		return answer{clear, reasonPast, fmt.Sprintf("%s and not into %s, although an eroute takes it", leaves, into), []string{f.route(into)}}
	case f.way.device == "lo":
		return answer{dropped, reasonNoRoute, "its route leads to lo: it does not leave this host", nil}
	}
	if p := f.foreignPolicy(); p != nil {
		return p.answer(leaves)
	}
	a := answer{verdict: clear, cause: leaves + ", and no eroute takes it"}
	a.next = []string{hints.Eroute(f.tables, f.flow)}
	return a
}

// A policy is one of another program.
type policy klips.ForeignPolicy

// foreignPolicy returns the policy of another program that decides about an outbound packet
// before it enters a device; nil: there is none.
func (f *facts) foreignPolicy() *policy {
	first := func(direction string) *policy {
		for _, p := range f.tables.ForeignPolicies {
			if p.Direction == direction && p.IfID == 0 && hints.Matches(p.Selector, f.flow) {
				return (*policy)(&p)
			}
		}
		return nil
	}
	if f.forwarded {
		// The kernel forwards only what has come through the SAs of this policy, and here
		// the packet comes in clear.
		if p := first("fwd"); p != nil && p.Action != "allow" {
			p.Action = "block"
			return p
		}
	}
	return first("out")
}

// answer is the answer about a packet that follows a policy. leaves is the way of one that
// passes.
func (p *policy) answer(leaves string) answer {
	next := []string{"ip xfrm policy lists it"}
	switch p.Action {
	case "block":
		return answer{dropped, reasonForeign, fmt.Sprintf("a policy of another program blocks it: %v, priority %d", p.Selector, p.Priority), next}
	case "protect":
		return answer{protected, reasonForeign, fmt.Sprintf("a policy of another program protects it: %v, priority %d", p.Selector, p.Priority), next}
	}
	return answer{clear, reasonForeign, fmt.Sprintf("%s, and a policy of another program lets it pass: %v, priority %d", leaves, p.Selector, p.Priority), next}
}

// wantedDevice returns the device for a packet that an eroute to a group, or to a shunt other
// than %pass, takes; empty: no eroute takes it.
func (f *facts) wantedDevice() string {
	legs := f.decision.Legs
	if len(legs) == 0 || f.decision.Fate == klips.FateBypass || legs[0].Target == klips.Magic(klips.SPIPass) {
		return ""
	}
	if f.flow.Device != "" {
		return f.flow.Device
	}
	if name := attached(f.tables.Devices); name != "" {
		return name
	}
	return "ipsec0"
}

// protect is the answer about a packet that the stack protects.
func (f *facts) protect() answer {
	switch {
	case f.peer.err != nil:
		return answer{dropped, reasonNoPeer, fmt.Sprintf("it is protected, but the kernel has no route to the peer %v (%v)", f.peer.to, f.peer.err),
			[]string{"ip route get " + f.peer.to.String()}}
	case f.peer.assumed && !f.peer.neighbour:
		return answer{dropped, reasonNoPeer, fmt.Sprintf("it is protected, but no route leads to the peer %v by %s, and on the link itself it has not answered", f.peer.to, f.peer.device),
			[]string{"ip route get " + f.peer.to.String()}}
	case f.forwarded && f.flow.Dst.Is6() && f.longer():
		return answer{dropped, drop.TooBig.String(), fmt.Sprintf("it is longer than %s takes: its sender gets an ICMP error with the MTU %d", f.way.device, f.way.mtu), nil}
	}
	var by []string
	for _, leg := range f.decision.Legs {
		for _, id := range leg.SAs {
			by = append(by, id.String())
		}
	}
	a := answer{verdict: protected, cause: "it goes to " + f.peerAddr().String() + " through " + strings.Join(by, ", ")}
	f.elsewhere(&a)
	return a
}

// elsewhere adds to an answer that the peer's packets come from another UDP port than the
// protected packet goes to: a NAT does not take it to the peer.
func (f *facts) elsewhere(a *answer) {
	group := f.decision.Legs[len(f.decision.Legs)-1].SAs
	out := group[len(group)-1]
	to := f.findSA(out)
	if to == nil || to.NATT.Type == klips.NATTNone {
		return
	}
	port := to.NATT.DPort
	for _, sa := range f.tables.SAs {
		if sa.HeardAddr == out.Dst && sa.HeardPort != port {
			a.cause += fmt.Sprintf(", but to port %d, and the peer's packets come from port %d: a NAT on the way does not take it to the peer", port, sa.HeardPort)
			a.next = []string{fmt.Sprintf("set this port in the NAT, and here in the SAs: --sport %d in that to the peer, --dport %d in that from it; in ipsec.conf leftnatport or rightnatport", sa.HeardPort, sa.HeardPort)}
			return
		}
	}
}

// peerAddr returns the address that the protected packet goes to.
func (f *facts) peerAddr() netip.Addr {
	group := f.decision.Legs[len(f.decision.Legs)-1].SAs
	return group[len(group)-1].Dst
}

// refused is the answer about a packet that the stack drops.
func (f *facts) refused() answer {
	d := f.decision
	a := answer{verdict: dropped, reason: d.Reason, cause: hints.Meaning(d.Reason)}
	if d.SA.SPI != 0 {
		a.cause = d.SA.String() + ": " + a.cause
	}
	switch d.Reason {
	case drop.Detached.String():
		cause, mend := hints.Detached(f.device())
		a.cause, a.next = cause, []string{mend}
	case drop.NoEroute.String():
		a.cause = "it is routed into " + f.flow.Device + ", and no eroute takes it"
		a.next = []string{hints.Eroute(f.tables, f.flow)}
	case drop.NoSA.String():
		target := d.Legs[len(d.Legs)-1].Target
		a.cause = "its eroute is to " + target.String() + ", and there is no such SA"
		a.next = []string{hints.SA(f.tables, target)}
	case drop.ErouteDrop.String():
		a.next = []string{f.replace(d.Legs[0].Eroute)}
	case drop.Expired.String(), drop.NoNumbers.String():
		a.next = []string{"ipsec rekey NAME for a connection, or new SAs on both ends"}
	case drop.NotUsable.String():
		a.next = []string{"ipsec spi shows its state; give it keys, or make it again"}
	case drop.TooBig.String():
		a.cause = fmt.Sprintf("it is longer than the way takes: %d bytes fit into the MTU %d of the way, with all headers", d.Longest, d.MTU)
		a.next = []string{"mtu=auto or mss=auto in ipsec.conf, or ip link set " + f.flow.Device + " mtu " + fmt.Sprint(max(d.Longest, minMTU6))}
	}
	return a
}

// replace returns the command that gives an eroute another target.
func (f *facts) replace(s klips.Selector) string {
	return fmt.Sprintf("ipsec eroute --replace --src %v --dst %v --said SAID gives it another target", s.Src, s.Dst)
}

// route returns the command that routes the destinations of the packet's eroute into a device.
func (f *facts) route(device string) string {
	dst := f.decision.Legs[0].Eroute.Dst
	text := "ip "
	if dst.Addr().Is6() {
		text += "-6 "
	}
	if dst.Bits() == 0 {
		dst = host(f.flow.Dst)
	}
	return fmt.Sprintf("%sroute replace %v dev %s", text, dst, device)
}

func (f *facts) judgeIn() answer {
	d := f.decision
	if d.Fate != klips.FateAdmit {
		return f.notAdmitted()
	}
	var by []string
	for _, a := range d.Admissions {
		if a.Reason == "" {
			by = append(by, klips.JoinSAIDs(a.SAs))
		}
	}
	switch {
	case errors.Is(f.way.err, unix.EXDEV), errors.Is(f.way.err, unix.EINVAL):
		return f.rpFilter()
	case !f.way.here && !f.forwarding:
		return f.noForwarding()
	case f.way.err != nil:
		return answer{dropped, reasonNoRoute, fmt.Sprintf("it comes out of %s, and the kernel has no route to %v (%v)", by[0], f.flow.Dst, f.way.err), nil}
	}
	a := answer{verdict: admitted, cause: "it may come out of " + strings.Join(by, " or ")}
	switch {
	case f.way.here:
		a.cause += ", and is for this host"
	default:
		a.cause += ", and goes on to " + f.way.device
	}
	return a
}

// notAdmitted is the answer about an inbound packet that no SA admits.
func (f *facts) notAdmitted() answer {
	d := f.decision
	a := answer{verdict: dropped, reason: d.Reason}
	if len(d.Admissions) > 0 {
		a.cause = klips.JoinSAIDs(d.Admissions[0].SAs) + ": " + hints.Meaning(d.Reason)
		a.next = []string{"ipsec rekey NAME for a connection, or new SAs on both ends"}
		return a
	}
	var inbound []klips.SA
	for _, sa := range f.tables.SAs {
		if sa.Dir.Receives() {
			inbound = append(inbound, sa)
		}
	}
	if len(inbound) == 0 {
		a.reason, a.cause = drop.NoSA.String(), "there is no inbound SA: the destination of an inbound SA is an address of this host"
		return a
	}
	a.cause = "the inbound policies admit no such packet"
	for _, sa := range inbound {
		if sa.Policy != nil {
			a.next = append(a.next, hints.Policy(sa.ID, *sa.Policy, f.flow))
		}
	}
	a.next = a.next[:min(len(a.next), maxHints)]
	return a
}

// maxHints is how many hints of one kind are shown.
const maxHints = 5
