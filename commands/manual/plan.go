package manual

import (
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
)

// A step is one thing to do: the call of an applet, the call of a script, or a
// change of the host's routes or devices.
type step struct {
	// args are an applet and its arguments.
	args []string
	// script is a command for sh, called with PLUTO_VERB set to verb.
	script, verb string
	// route is a route to be added, to take the place of another one, or to be
	// removed.
	route   *routes.Route
	replace bool
	// guard is a flow that is to be guarded, or guarded no more.
	guard *klips.Guard
	// backstop is a network that gets a backstop, see package routes.
	backstop *netip.Prefix
	// device is one that gets address; without one it is brought up. remove does
	// the reverse.
	device  string
	address *netip.Prefix
	remove  bool

	// ifExists: a missing object is not an error.
	ifExists bool
	// undo takes the step back.
	undo []step
}

// A plan is what an operation does.
type plan struct {
	environ []string // NAME=VALUE, for scripts
	steps   []step
}

// operations are what can be done with a connection.
var operations = [...]string{"up", "down", "route", "unroute"}

// downUnroute is --down and --unroute together.
const downUnroute = "down --unroute"

// makePlan returns what an operation does. It reads nothing: without a situation
// it assumes that nothing is there that is to be made, and everything that is to
// be removed.
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
		// Where no route keeps the packets in, the eroute stays and does: the stack
		// drops what has no SA.
		if at == nil || at.flow().own() && (operation == downUnroute || !at.past) {
			p.steps = append(p.steps, step{args: k.erouteDel(), ifExists: true})
		}
		for _, to := range []int{1 - k.local, k.local} {
			for _, id := range k.heads(to, at) {
				p.steps = append(p.steps, step{args: k.label("spi", "--del", "--said", id.String()), ifExists: true})
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
			p.steps = append(p.steps, step{args: k.erouteDel(), ifExists: true})
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

// label makes the call of an applet whose messages bear the connection's name.
func (k *connection) label(applet string, args ...string) []string {
	return append([]string{applet, "--label", k.name}, args...)
}

// makeSAs makes the SAs that go to an end, and their group. Those that come here get
// the connection's inbound policy.
func (k *connection) makeSAs(to int, at *situation) []step {
	src, dst := klips.FormatAddr(k.ends[1-to].addr), klips.FormatAddr(k.ends[to].addr)
	family := klips.FamilyOf(k.ends[to].addr)
	var steps []step
	var ids []string
	for _, s := range k.sas(to) {
		id := s.id.String()
		ids = append(ids, id)
		args := []string{"--af", family.String(), "--said", id}
		switch s.id.Proto {
		case klips.ProtoTun:
			version := "--ip4"
			if family == klips.Family6 {
				version = "--ip6"
			}
			args = append(args, version, "--src", src, "--dst", dst)
		case klips.ProtoESP:
			args = append(args, "--esp", s.alg, "--src", src)
			args = optional(args, "--authkey", s.toward.authKey)
			args = optional(args, "--replay_window", k.espWindow)
			args = optional(args, "--enckey", s.toward.encKey)
		case klips.ProtoAH:
			args = append(args, "--ah", s.alg, "--src", src)
			args = optional(args, "--replay_window", k.ahWindow)
			args = optional(args, "--authkey", s.toward.ahKey)
		}
		steps = append(steps, step{
			args: k.label("spi", args...),
			undo: []step{{args: k.label("spi", "--del", "--said", id), ifExists: true}},
		})
	}
	if len(ids) > 1 {
		steps = append(steps, step{
			args: k.label("spigrp", append([]string{"--said"}, ids...)...),
			undo: []step{{args: k.label("spigrp", "--said", ids[0]), ifExists: true}},
		})
	}
	if to == k.local && ids != nil && (at == nil || at.admits) {
		// What is printed is for any stack, also for one without policies of SAs in
		// transport mode.
		steps = append(steps, step{args: k.admit(ids[0]), ifExists: at == nil && !k.tun})
	}
	return steps
}

// admit sets what the packets that come in through the connection may be from and
// to. Without it a stack takes all of them or, as later KLIPS kernels from tunnels,
// none. The policy goes with its SA.
func (k *connection) admit(said string) []string {
	src, dst := k.peer().subnet, k.me().subnet
	return k.label("eroute", "--addin", "--eraf", klips.FamilyOf(src.Addr()).String(),
		"--src", prefixText(src), "--dst", prefixText(dst), "--said", said)
}

func optional(args []string, option, value string) []string {
	if value == "" {
		return args
	}
	return append(args, option, value)
}

// flow names the packets that go from here to the peer.
func (k *connection) flow() []string {
	src, dst := k.me().subnet, k.peer().subnet
	return []string{"--eraf", klips.FamilyOf(src.Addr()).String(), "--src", prefixText(src), "--dst", prefixText(dst)}
}

func (k *connection) selector() klips.Selector {
	return klips.Selector{Src: k.me().subnet, Dst: k.peer().subnet}
}

// said is the SAID that packets to the peer go to.
func (k *connection) said() string {
	if k.shunt != "" {
		return k.shunt
	}
	return k.sas(1 - k.local)[0].id.String()
}

// setEroute adds the eroute, or replaces one that waits for an SA: not all stacks
// accept a replacement of what is not there.
func (k *connection) setEroute(at *situation) step {
	replace := step{args: k.erouteArgs("--replace", k.said())}
	if at == nil {
		return replace
	}
	if old, ok := at.eroute(k.selector()); ok {
		replace.undo = []step{{args: k.erouteArgs("--replace", old.ID.String())}}
		return replace
	}
	return step{args: k.erouteArgs("--add", k.said()), undo: []step{{args: k.erouteDel(), ifExists: true}}}
}

func (k *connection) erouteArgs(how, said string) []string {
	return k.label("eroute", slices.Concat([]string{how}, k.flow(), []string{"--said", said})...)
}

func (k *connection) erouteDel() []string {
	return k.label("eroute", append([]string{"--del"}, k.flow()...)...)
}

// makeRoute makes the routes that are not there, unless there must be none. What
// is in their place is replaced and not removed before: packets would take a third
// route, in clear.
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

// updown is what a verb other than prepare and route does: the script's call if
// there is one, else the removal of routes. back is the script's verb that takes
// it back.
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

// routes are the routes that bring packets to the peer into the virtual device.
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

// halves returns a prefix, or the two halves of everything: routes to them
// eclipse a default route without taking its place.
func halves(p netip.Prefix) []netip.Prefix {
	switch {
	case p.Bits() != 0:
		return []netip.Prefix{p}
	case p.Addr().Is6():
		return []netip.Prefix{netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1")}
	}
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}
}

// verb is a verb as scripts know it.
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

// environ is what scripts are told besides the verb.
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
		"PLUTO_MY_CLIENT=" + prefixText(me.subnet),
		"PLUTO_MY_CLIENT_NET=" + klips.FormatAddr(me.subnet.Addr()),
		"PLUTO_MY_CLIENT_MASK=" + maskText(me.subnet),
		"PLUTO_PEER=" + klips.FormatAddr(peer.addr),
		"PLUTO_PEER_CLIENT=" + prefixText(peer.subnet),
		"PLUTO_PEER_CLIENT_NET=" + klips.FormatAddr(peer.subnet.Addr()),
		"PLUTO_PEER_CLIENT_MASK=" + maskText(peer.subnet),
	}
}

// prefixText writes a prefix in a form that ipsec eroute reads: its addresses
// differ from those of package netip where "::" is concerned.
func prefixText(p netip.Prefix) string {
	return klips.FormatAddr(p.Addr()) + p.String()[len(p.Addr().String()):]
}

// maskText writes a prefix length as an address.
func maskText(p netip.Prefix) string {
	ones := netip.MustParseAddr("255.255.255.255")
	if p.Addr().Is6() {
		ones = netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	}
	return klips.FormatAddr(netip.PrefixFrom(ones, p.Bits()).Masked().Addr())
}
