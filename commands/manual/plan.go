package manual

import (
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A step is one action: a change of the stack, the call of a script, or a change of the
// host's routes or devices.
type step struct {
	// sa is an SA to be made, change is any other change of the stack. label appears in
	// their messages.
	sa     *spi.Description
	change klips.Change
	label  string
	// script is a command for sh, which is called with PLUTO_VERB set to verb.
	script, verb string
	// route is a route that is added, replaces another one, or is removed.
	route   *routes.Route
	replace bool
	// guard is a flow whose guard is added or removed.
	guard *klips.Guard
	// backstop is a network that gets a backstop, see package routes.
	backstop *netip.Prefix
	// device gets address, or is set up if there is no address. remove does the
	// reverse.
	device  string
	address *netip.Prefix
	remove  bool

	// ifExists: a missing object is not an error.
	ifExists bool
	// undo reverses the step.
	undo []step
}

// A plan is the list of steps of an operation.
type plan struct {
	environ []string // NAME=VALUE, for scripts
	steps   []step
}

// operations are the operations on a connection.
var operations = [...]string{"up", "down", "route", "unroute"}

// downUnroute is --down and --unroute together.
const downUnroute = "down --unroute"

// makePlan returns the plan of an operation. It reads nothing. Without a situation it
// assumes that objects to be made do not exist, and that objects to be removed do.
func makePlan(k *connection, operation string, at *situation) plan {
	p := plan{environ: k.environ()}
	switch operation {
	case "up":
		for _, to := range []int{1 - k.local, k.local} {
			p.steps = append(p.steps, k.makeSAs(to, at)...)
		}
		p.steps = append(p.steps, k.setEroute(at))
		p.steps = append(p.steps, k.close(at)...)
		p.steps = append(p.steps, k.makeRoute(at)...)
		p.steps = append(p.steps, k.updown("up", "down")...)
	case "down", downUnroute:
		p.steps = append(p.steps, k.updown("down", "")...)
		// If no route keeps the packets in, the eroute stays to do so: the stack drops
		// packets to a missing SA.
		if at == nil || at.flow().own() && (operation == downUnroute || !at.past) {
			p.steps = append(p.steps, k.askIfThere(klips.DeleteEroute{Selector: k.selector()}))
		}
		for _, to := range []int{1 - k.local, k.local} {
			for _, id := range k.heads(to, at) {
				p.steps = append(p.steps, k.askIfThere(klips.DeleteSA{ID: id}))
			}
		}
		if operation == downUnroute {
			p.steps = append(p.steps, k.updown("unroute", "")...)
			p.steps = append(p.steps, k.open(operation, at)...)
		}
	case "route":
		p.steps = append(p.steps, k.close(at)...)
		p.steps = append(p.steps, k.makeRoute(at)...)
	case "unroute":
		p.steps = append(p.steps, k.updown("unroute", "")...)
		p.steps = append(p.steps, k.open(operation, at)...)
		if at != nil && at.held() {
			p.steps = append(p.steps, k.askIfThere(klips.DeleteEroute{Selector: k.selector()}))
		}
	}
	return p
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
func (k *connection) makeSAs(to int, at *situation) []step {
	var steps []step
	var ids []klips.SAID
	for _, s := range k.sas(to) {
		ids = append(ids, s.id)
		d := &spi.Description{ID: s.id, Src: k.ends[1-to].addr, Alg: s.alg}
		switch s.id.Proto {
		case klips.ProtoTun:
			d.CopyTOS = k.copyTOS && to != k.local && (at == nil || at.copiesTOS)
		case klips.ProtoESP:
			d.EncKey, d.AuthKey, d.Window = s.toward.encKey, s.toward.authKey, k.espWindow
		case klips.ProtoAH:
			d.AuthKey, d.Window = s.toward.ahKey, k.ahWindow
		}
		steps = append(steps, step{sa: d, label: k.name, undo: []step{k.askIfThere(klips.DeleteSA{ID: s.id})}})
	}
	if len(ids) > 1 {
		group := k.ask(klips.Group{IDs: ids})
		group.undo = []step{k.askIfThere(klips.Ungroup{ID: ids[0]})}
		steps = append(steps, group)
	}
	if to == k.local && ids != nil && (at == nil || at.admits) {
		// The inbound policy limits the sources and destinations of inbound packets.
		// Without it a stack accepts all of them; later KLIPS kernels accept none from
		// tunnels. The policy is removed with its SA.
		policy := k.ask(klips.SetPolicy{ID: ids[0], Policy: klips.Selector{Src: k.peer().subnet, Dst: k.me().subnet}})
		// A printed plan is for any stack, also for one that has no policies for SAs in
		// transport mode.
		policy.ifExists = at == nil && !k.tun
		steps = append(steps, policy)
	}
	return steps
}

func (k *connection) selector() klips.Selector {
	return klips.Selector{Src: k.me().subnet, Dst: k.peer().subnet}
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
func (k *connection) setEroute(at *situation) step {
	set := func(id klips.SAID, also []klips.SAID, replace bool) step {
		return k.ask(klips.SetEroute{Eroute: klips.Eroute{Selector: k.selector(), ID: id, Also: also}, Replace: replace})
	}
	s := set(k.said(), nil, true)
	if at == nil {
		return s
	}
	if old, ok := at.eroute(k.selector()); ok {
		s.undo = []step{set(old.ID, old.Also, true)}
		return s
	}
	s = set(k.said(), nil, false)
	s.undo = []step{k.askIfThere(klips.DeleteEroute{Selector: k.selector()})}
	return s
}

// makeRoute returns the steps that add the missing routes, unless there must be none. A
// route in the way is replaced and not removed before, because packets would then leave
// in clear by a third route.
func (k *connection) makeRoute(at *situation) (steps []step) {
	switch {
	case k.me().updown != "":
		return append(k.updown("prepare", ""), k.updown("route", "unroute")...)
	case at != nil && at.past:
		return nil
	}
	for _, r := range k.routes() {
		s := step{route: &r, replace: true}
		if at != nil {
			if at.routed(r) {
				continue
			}
			_, s.replace = routes.To(at.routes, r.Dst)
		}
		steps = append(steps, s)
	}
	return steps
}

// updown returns the steps for a verb other than prepare and route: the call of the
// script if there is one, else the removal of routes. back is the script's verb for the
// reverse.
func (k *connection) updown(verb, back string) []step {
	if script := k.me().updown; script != "" {
		s := step{script: script, verb: k.verb(verb)}
		if back != "" {
			s.undo = []step{{script: script, verb: k.verb(back)}}
		}
		return []step{s}
	}
	var steps []step
	if verb == "unroute" {
		for _, r := range k.routes() {
			steps = append(steps, step{route: &r, remove: true, ifExists: true})
		}
	}
	return steps
}

// routes returns the routes that lead packets to the peer into the virtual device.
func (k *connection) routes() (list []routes.Route) {
	for _, dst := range halves(k.peer().subnet) {
		r := routes.Route{Dst: dst, Device: k.iface}
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
		"PLUTO_PEER=" + klips.FormatAddr(peer.addr),
		"PLUTO_PEER_CLIENT=" + klips.FormatPrefix(peer.subnet),
		"PLUTO_PEER_CLIENT_NET=" + klips.FormatAddr(peer.subnet.Addr()),
		"PLUTO_PEER_CLIENT_MASK=" + maskText(peer.subnet),
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
