package manual

import (
	"net/netip"
	"strconv"

	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// operations are the operations on a connection.
var operations = [...]string{"up", "down", "route", "unroute"}

// downUnroute is --down and --unroute together.
const downUnroute = "down --unroute"

// makePlan returns the plan of an operation. It reads nothing. Without a situation it
// assumes that objects to be made do not exist, and that objects to be removed do.
func makePlan(k *connection, operation string, at *situation) step.Plan {
	p := step.Plan{Environ: k.environ()}
	switch operation {
	case "up":
		for _, to := range []int{1 - k.local, k.local} {
			p.Steps = append(p.Steps, k.makeSAs(to, at)...)
		}
		p.Steps = append(p.Steps, k.setEroute(at))
		p.Steps = append(p.Steps, k.setMTU()...)
		p.Steps = append(p.Steps, k.setMSS(nil)...)
		p.Steps = append(p.Steps, k.close(at)...)
		p.Steps = append(p.Steps, k.makeRoute(at)...)
		p.Steps = append(p.Steps, k.updown("up", "down")...)
	case "down", downUnroute:
		p.Steps = append(p.Steps, k.updown("down", "")...)
		// If no route keeps the packets in, the eroute stays to do so: the stack drops
		// packets to a missing SA.
		if at == nil || at.flow().own() && (operation == downUnroute || !at.past) {
			p.Steps = append(p.Steps, k.askIfThere(klips.DeleteEroute{Selector: k.selector()}))
		}
		p.Steps = append(p.Steps, k.removeSAs(at)...)
		p.Steps = append(p.Steps, k.removeMSS()...)
		if operation == downUnroute {
			p.Steps = append(p.Steps, k.updown("unroute", "")...)
			p.Steps = append(p.Steps, k.open(operation, at)...)
		}
	case "route":
		if at != nil && at.someUp() && at.lacksMTU(k) {
			p.Steps = append(p.Steps, k.setMTU()...)
		}
		p.Steps = append(p.Steps, k.close(at)...)
		p.Steps = append(p.Steps, k.makeRoute(at)...)
	case "unroute":
		p.Steps = append(p.Steps, k.updown("unroute", "")...)
		p.Steps = append(p.Steps, k.open(operation, at)...)
		if at != nil && at.held() {
			p.Steps = append(p.Steps, k.askIfThere(klips.DeleteEroute{Selector: k.selector()}))
		}
	}
	return p
}

// ask returns a step for a change.
func (k *connection) ask(c klips.Change) step.Step { return step.Step{Change: c, Label: k.name} }

// askIfThere returns a step for the removal of an object that may be missing.
func (k *connection) askIfThere(c klips.Change) step.Step {
	return step.Step{Change: c, Label: k.name, IfExists: true}
}

// heads returns one SA of each group that the connection has towards an end:
// removing one member removes its group.
func (k *connection) heads(to int, at *situation) (list []klips.SAID) {
	if at == nil {
		for _, s := range k.sas(to)[:min(1, len(k.sas(to)))] {
			list = append(list, s.id)
		}
		return list
	}
	gone := map[klips.SAID]bool{}
	for _, s := range k.sas(to) {
		if !at.object(s.id).own() || gone[s.id] {
			continue
		}
		list = append(list, s.id)
		for _, id := range at.groups[s.id] {
			gone[id] = true
		}
	}
	return list
}

// makeSAs returns the steps that make the SAs to an end, and their group. Inbound SAs
// get the connection's inbound policy.
func (k *connection) makeSAs(to int, at *situation) []step.Step {
	var steps []step.Step
	var ids []klips.SAID
	for _, s := range k.sas(to) {
		ids = append(ids, s.id)
		d := &spi.Description{ID: s.id, Src: k.ends[1-to].addr, Alg: s.alg}
		switch s.id.Proto {
		case klips.ProtoTun:
			d.CopyTOS = k.copyTOS && to != k.local && (at == nil || at.copiesTOS)
		case klips.ProtoESP:
			d.EncKey, d.AuthKey, d.Window, d.ESN = s.toward.encKey, s.toward.authKey, k.espWindow, k.esn
			d.Encap, d.To, d.From = k.encap, k.ends[to].natPort, k.ends[1-to].natPort
		case klips.ProtoAH:
			d.AuthKey, d.Window, d.ESN = s.toward.ahKey, k.ahWindow, k.esn
		}
		if k.master.Value != "" && s.alg != "" {
			k.deriveKeys(d, to)
		}
		steps = append(steps, step.Step{SA: d, Label: k.name, Undo: []step.Step{k.askIfThere(klips.DeleteSA{ID: s.id})}})
	}
	if len(ids) > 1 {
		group := k.ask(klips.Group{IDs: ids})
		group.Undo = []step.Step{k.askIfThere(klips.Ungroup{ID: ids[0]})}
		steps = append(steps, group)
	}
	if to == k.local && ids != nil && (at == nil || at.admits) {
		// The inbound policy limits the sources and destinations of inbound packets.
		// Without it a stack accepts all of them; later KLIPS kernels accept none from
		// tunnels. The policy is removed with its SA.
		policy := k.ask(klips.SetPolicy{ID: ids[0], Policy: k.policy()})
		// A printed plan is for any stack, also for one that has no policies for SAs in
		// transport mode.
		policy.IfExists = at == nil && !k.tun
		steps = append(steps, policy)
	}
	return steps
}

func (k *connection) selector() klips.Selector {
	me, peer := k.me(), k.peer()
	return klips.Selector{Src: me.subnet, Dst: peer.subnet, Proto: me.proto, SrcPort: me.port, DstPort: peer.port}
}

// said returns the SAID that packets to the peer go to.
func (k *connection) said() klips.SAID {
	if k.shunt != "" {
		id, _ := syntax.ParseSAID(k.shunt, nil) // the type of a connection selects a valid one
		return id
	}
	return k.sas(1 - k.local)[0].id
}

// setEroute adds the eroute, or replaces one that waits for an SA: some stacks refuse
// to replace an eroute that does not exist.
func (k *connection) setEroute(at *situation) step.Step {
	set := func(id klips.SAID, also []klips.SAID, replace bool) step.Step {
		return k.ask(klips.SetEroute{Eroute: klips.Eroute{Selector: k.selector(), ID: id, Also: also}, Replace: replace})
	}
	s := set(k.said(), nil, true)
	if at == nil {
		return s
	}
	if old, ok := at.eroute(k.selector()); ok {
		s.Undo = []step.Step{set(old.ID, old.Also, true)}
		return s
	}
	s = set(k.said(), nil, false)
	s.Undo = []step.Step{k.askIfThere(klips.DeleteEroute{Selector: k.selector()})}
	return s
}

// makeRoute returns the steps that add the missing routes, unless there must be none. A
// route in the way is replaced and not removed before, because packets would then leave
// in clear by a third route.
func (k *connection) makeRoute(at *situation) (steps []step.Step) {
	switch {
	case k.me().updown != "":
		return append(k.updown("prepare", ""), k.updown("route", "unroute")...)
	case at != nil && at.past:
		return nil
	}
	for _, r := range k.routes() {
		s := step.Step{Route: &r, Replace: true}
		if at != nil {
			if at.routed(r) {
				continue
			}
			_, s.Replace = routes.To(at.routes, r.Dst)
		}
		steps = append(steps, s)
	}
	return steps
}

// updown returns the steps for a verb other than prepare and route: the call of the
// script if there is one, else the removal of routes. back is the script's verb for the
// reverse.
func (k *connection) updown(verb, back string) []step.Step {
	if script := k.me().updown; script != "" {
		s := step.Step{Script: script, Verb: k.verb(verb)}
		if back != "" {
			s.Undo = []step.Step{{Script: script, Verb: k.verb(back)}}
		}
		return []step.Step{s}
	}
	var steps []step.Step
	if verb == "unroute" {
		for _, r := range k.routes() {
			steps = append(steps, step.Step{Route: &r, Remove: true, IfExists: true})
		}
	}
	return steps
}

// routes returns the routes that lead packets to the peer into the virtual device.
func (k *connection) routes() (list []routes.Route) {
	for _, dst := range halves(k.peer().subnet) {
		r := routes.Route{Dst: dst, Device: k.iface, Src: k.me().sourceIP}
		if k.via {
			r.Gateway = k.me().nexthop
		}
		list = append(list, r)
	}
	return list
}

// halves returns a prefix, or the two halves of 0/0: routes to them override a default
// route without replacing it.
func halves(p netip.Prefix) []netip.Prefix {
	switch {
	case p.Bits() != 0:
		return []netip.Prefix{p}
	case p.Addr().Is6():
		return []netip.Prefix{netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1")}
	}
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}
}

// verb returns a verb in the form for scripts.
func (k *connection) verb(verb string) string {
	verb += "-host"
	if k.me().given {
		verb = verb[:len(verb)-len("host")] + "client"
	}
	if k.peer().subnet.Addr().Is6() {
		verb += "-v6"
	}
	return verb
}

// environ returns the environment variables for scripts, except the verb.
func (k *connection) environ() []string {
	me, peer := k.me(), k.peer()
	return []string{
		"PLUTO_VERSION=2.0",
		"PLUTO_STACK=klips",
		"PLUTO_CONNECTION=" + k.name,
		"PLUTO_NEXT_HOP=" + klips.FormatAddr(me.nexthop),
		"PLUTO_INTERFACE=" + k.iface,
		"PLUTO_VIRT_INTERFACE=" + k.iface,
		"PLUTO_ME=" + klips.FormatAddr(me.addr),
		"PLUTO_MY_CLIENT=" + klips.FormatPrefix(me.subnet),
		"PLUTO_MY_CLIENT_NET=" + klips.FormatAddr(me.subnet.Addr()),
		"PLUTO_MY_CLIENT_MASK=" + maskText(me.subnet),
		"PLUTO_MY_PROTOCOL=" + strconv.Itoa(int(me.proto)),
		"PLUTO_MY_PORT=" + strconv.Itoa(int(me.port)),
		"PLUTO_PEER=" + klips.FormatAddr(peer.addr),
		"PLUTO_PEER_CLIENT=" + klips.FormatPrefix(peer.subnet),
		"PLUTO_PEER_CLIENT_NET=" + klips.FormatAddr(peer.subnet.Addr()),
		"PLUTO_PEER_CLIENT_MASK=" + maskText(peer.subnet),
		"PLUTO_PEER_PROTOCOL=" + strconv.Itoa(int(peer.proto)),
		"PLUTO_PEER_PORT=" + strconv.Itoa(int(peer.port)),
	}
}

// maskText returns a prefix length as an address mask.
func maskText(p netip.Prefix) string {
	ones := netip.MustParseAddr("255.255.255.255")
	if p.Addr().Is6() {
		ones = netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	}
	return klips.FormatAddr(netip.PrefixFrom(ones, p.Bits()).Masked().Addr())
}
