package manual

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
	"github.com/klips-go/ipsec/klips/user"
)

// form returns what is recorded of the connection.
func (k *connection) form() made.Form {
	f := made.Form{
		Shunt: k.shunt, Tunnel: k.tun, Local: k.local, Interface: k.iface, Via: k.via,
		SPI: k.spi, Base: k.base, Epoch: k.epoch, ESP: espName(k.esp), AH: ahName(k.ah),
		ESPWindow: k.espWindow, AHWindow: k.ahWindow, CopyTOS: k.copyTOS,
		ESN: k.esn, Encap: k.encap, MTU: k.mtu, MSS: k.mss,
	}
	for i, e := range k.ends {
		f.Ends[i] = made.End{
			Addr: e.addr, Any: e.any, Subnet: e.subnet, Given: e.given, Nexthop: k.hop(i),
			Updown: e.updown, TunSPI: e.tunSPI, ESPSPI: e.espSPI, AHSPI: e.ahSPI,
			Proto: e.proto, Port: e.port, SourceIP: k.sourceIP(i), NATPort: e.natPort,
		}
	}
	return f
}

// hop returns the next hop of an end if it has an effect: on this host, for a route or a script.
func (k *connection) hop(i int) (a netip.Addr) {
	if e := &k.ends[i]; i == k.local && (k.via || e.updown != "") {
		a = e.nexthop
	}
	return a
}

// sourceIP returns the source address of an end if it has an effect: on this host.
func (k *connection) sourceIP(i int) (a netip.Addr) {
	if i == k.local {
		a = k.ends[i].sourceIP
	}
	return a
}

// espName returns one name for all names of an algorithm.
func espName(name string) string {
	if t, bits, err := syntax.ParseESP(name); err == nil {
		if one, ok := syntax.ESPName(t, bits); ok {
			return one
		}
	}
	return name
}

// ahName does the same for AH.
func ahName(name string) string {
	if t, err := syntax.ParseAH(name); err == nil {
		if one, ok := syntax.AHName(t); ok {
			return one
		}
	}
	return name
}

// formed returns the connection that was recorded. It has no keys, so that its SAs cannot
// be made.
func formed(name string, f made.Form) *connection {
	k := &connection{
		name: name, shunt: f.Shunt, tun: f.Tunnel, local: f.Local, iface: f.Interface, via: f.Via,
		spi: f.SPI, base: f.Base, epoch: f.Epoch, esp: f.ESP, ah: f.AH,
		espWindow: f.ESPWindow, ahWindow: f.AHWindow, copyTOS: f.CopyTOS, esn: f.ESN, encap: f.Encap, mtu: f.MTU, mss: f.MSS,
		attaches: true,
	}
	for i, e := range f.Ends {
		k.ends[i] = end{
			addr: e.Addr, any: e.Any, subnet: e.Subnet, given: e.Given, nexthop: e.Nexthop,
			updown: e.Updown, tunSPI: e.TunSPI, espSPI: e.ESPSPI, ahSPI: e.AHSPI,
			proto: e.Proto, port: e.Port, sourceIP: e.SourceIP, natPort: e.NATPort,
		}
	}
	return k
}

// recorded returns the connection of a record, and the one whose SAs exist besides, if there
// is one.
func recorded(c made.Connection) []*connection {
	list := []*connection{formed(c.Conn, c.Form)}
	if c.Aside != nil {
		list = append(list, formed(c.Conn, *c.Aside))
	}
	return list
}

// Recorded returns how many SAs and eroutes the connections have whose records are in a run
// directory. It does not wait for commands that change them.
func Recorded(rundir string) (c user.Counts) {
	for _, r := range made.Read(rundir) {
		c.Eroutes++
		if !r.Up() {
			continue
		}
		for _, k := range recorded(r) {
			c.SAs += len(k.saids())
		}
	}
	return c
}

// A difference is a parameter of a connection that has another value than what was made.
type difference struct {
	name     string // as in the file
	was, now string // "": none
}

func (d difference) String() string {
	text := func(v string) string {
		if v == "" {
			return "not given"
		}
		return quote.Text(v) // no parameter is a key
	}
	return fmt.Sprintf("%s: %s is made, the file has %s", d.name, text(d.was), text(d.now))
}

// firstDifference returns one of the parameters in which two connections differ, in words.
func firstDifference(was, now *connection) string {
	if l := differences(was, now); len(l) > 0 {
		return l[0].String()
	}
	return "what is made has a form that no parameter of the file shows"
}

// differences returns the parameters in which two connections differ, apart from keys.
func differences(was, now *connection) (list []difference) {
	a, b := was.params(), now.params()
	for i := range a {
		if a[i].value != b[i].value {
			list = append(list, difference{a[i].name, a[i].value, b[i].value})
		}
	}
	return list
}

// A param is a parameter in the words of the file.
type param struct{ name, value string }

// params returns what the connection says, in the order of a file. Connections have the
// same names in the same order.
func (k *connection) params() []param {
	spi := func(n klips.SPI) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf("0x%x", uint32(n))
	}
	number := func(n uint16) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(int(n))
	}
	kind := "transport"
	switch {
	case k.shunt == "%pass":
		kind = "passthrough"
	case k.shunt != "":
		kind = k.shunt[1:]
	case k.tun:
		kind = "tunnel"
	}
	list := []param{{"type", kind}, {"this end", sides[k.local]}, {"device", k.iface}}
	for i, side := range sides {
		e := &k.ends[i]
		subnet, hop := "", ""
		if e.given || e.any {
			subnet = klips.FormatPrefix(e.subnet)
		}
		if a := k.hop(i); a.IsValid() {
			hop = klips.FormatAddr(a)
		}
		protoport, source := "", ""
		switch {
		case e.proto != 0:
			protoport = fmt.Sprintf("%d/%d", e.proto, e.port)
		case k.selector().OfBoth():
			protoport = fmt.Sprintf("6/%d,17/%d", e.port, e.port)
		}
		if a := k.sourceIP(i); a.IsValid() {
			source = klips.FormatAddr(a)
		}
		list = append(list, param{side, e.text()}, param{side + "subnet", subnet}, param{side + "protoport", protoport}, param{side + "sourceip", source},
			param{side + "natport", number(e.natPort)}, param{side + "nexthop", hop},
			param{side + "updown", e.updown}, param{side + "tunspi", spi(e.tunSPI)}, param{side + "espspi", spi(e.espSPI)}, param{side + "ahspi", spi(e.ahSPI)})
	}
	bytes := func(n int) string {
		if n == 0 {
			return "auto"
		}
		return strconv.Itoa(n)
	}
	word := func(yes bool) string {
		if yes {
			return "yes"
		}
		return "no"
	}
	return append(list, param{"spi", spi(k.spi)}, param{"spibase", spi(k.base)}, param{"epoch", fmt.Sprint(k.epoch)}, param{"esp", espName(k.esp)}, param{"ah", ahName(k.ah)},
		param{"espreplay_window", k.espWindow}, param{"ahreplay_window", k.ahWindow}, param{"hidetos", word(!k.copyTOS)},
		param{"esn", word(k.esn)}, param{"encapsulation", word(k.encap)}, param{"mtu", bytes(k.mtu)}, param{"mss", cmp.Or(k.mss, "no")})
}

// closedFlow returns what keeps the connection's packets from leaving in clear.
func (k *connection) closedFlow() made.Flow {
	f := made.Flow{Guard: *k.guard()}
	if k.me().updown == "" {
		for _, dst := range k.backstops() {
			if !k.far(dst, nil) {
				f.Backstops = append(f.Backstops, dst)
			}
		}
	}
	return f
}

// A Making is what was made of a connection.
type Making struct {
	SAs  []klips.SAID
	Flow klips.Selector // of its eroute
}

// Makings returns what was made of a connection, or of all connections of a conn, as records in
// a run directory have it; none: there is no record. It does not wait for commands that change
// them.
func Makings(rundir, name string) (list []Making) {
	for _, r := range made.Read(rundir) {
		if !isOf(r.Conn, []string{name}) {
			continue
		}
		for _, k := range recorded(r) {
			m := Making{Flow: k.selector()}
			if r.Up() && k.shunt == "" {
				m.SAs = k.saids()
			}
			list = append(list, m)
		}
	}
	return list
}
