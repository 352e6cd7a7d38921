package manual

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A connection is a conn with parsed parameters and known ends.
type connection struct {
	name  string
	shunt string // %pass, %drop or %reject; such a connection has no SAs
	tun   bool   // tunnel mode

	ends  [2]end // left and right, as in the file
	local int    // index of this host's end
	iface string // the virtual device: ipsec0
	via   bool   // a route through iface can have the next hop as gateway

	bindings []host.Binding // of interfaces=
	attaches bool           // a device that no binding names is attached to the device with the address of this end
	// follows: the address of this end, or its next hop, is %defaultroute; route is
	// that route.
	follows bool
	route   followed.Route

	spi, base           klips.SPI // one of them is set, unless it is a shunt
	esp, ah             string    // algorithms, in the form of ipsec spi; empty: none
	espWindow, ahWindow string    // empty: none
	// master is the parameter masterkey; without a value, the ends have the keys. With
	// it each epoch has other SPIs and other keys. A caller can change the epoch later,
	// and calls checkEpoch then.
	master conf.Param
	epoch  uint32
	esn    bool // sequence numbers of 64 bits
	encap  bool // ESP in UDP
	mtu    int  // of the virtual device while it is up, in bytes; 0: the stack's choice
	// mss is "auto" or the largest segment size in bytes that its TCP announces; empty: it is
	// left alone.
	mss string
	// copyTOS: the outer headers of tunnels get the TOS of the packet inside, if the
	// stack can do that for one tunnel.
	copyTOS bool
	notes   []string
}

// An end is left or right.
type end struct {
	addr    netip.Addr // unspecified if any is set
	any     bool       // the far end of a shunt; it has no SAs and its address is not used
	subnet  netip.Prefix
	given   bool // the subnet is in the file
	nexthop netip.Addr
	updown  string // the command; empty: the built-in one

	proto    uint8      // of the packets; 0: any
	port     uint16     // of the packets at this end; 0: any
	sourceIP netip.Addr // of packets that this host itself sends; not valid: the kernel's choice
	natPort  uint16     // UDP port of the end, for ESP in UDP

	// For the SAs that go to this end:
	encKey, authKey, ahKey string
	tunSPI, espSPI, ahSPI  klips.SPI // 0: from spi or spibase
}

// sides are the names of the ends, which begin parameters.
var sides = [2]string{"left", "right"}

const defaultRoute = "%defaultroute"

// understand returns the connection of a conn. h is this host. me is its identity,
// unless it is the zero identity. other makes this host the other end.
func understand(c *conf.Conn, bindings []host.Binding, h host.Host, me host.Identity, other bool) (*connection, error) {
	k := &connection{name: c.Name, bindings: bindings}
	if err := k.mode(c); err != nil {
		return nil, err
	}
	hops, err := k.addresses(c, h)
	if err != nil {
		return nil, err
	}
	if err := k.subnets(c); err != nil {
		return nil, err
	}
	if err := k.protoports(c); err != nil {
		return nil, err
	}
	if err := k.sourceIPs(c); err != nil {
		return nil, err
	}
	if err := k.updowns(c); err != nil {
		return nil, err
	}
	if err := k.forms(c); err != nil {
		return nil, err
	}
	if err := k.lengths(c); err != nil {
		return nil, err
	}
	if k.shunt == "" {
		if err := k.numbers(c); err != nil {
			return nil, err
		}
		if err := k.keys(c); err != nil {
			return nil, err
		}
	}
	if err := k.whoAmI(c, h, me); err != nil {
		return nil, err
	}
	if other {
		k.local = 1 - k.local
	}
	if err := k.nexthops(c, h, hops); err != nil {
		return nil, err
	}
	for _, p := range lostParams {
		side, both := strings.CutPrefix(p, "*")
		for _, s := range sides {
			name := p
			if both {
				name = s + side
			} else if s != sides[0] {
				break
			}
			if c.Has(name) {
				k.notes = append(k.notes, name+" has no effect on a manually keyed connection")
			}
		}
	}
	return k, nil
}

// downWord returns what takes the connection down, for messages.
func (k *connection) downWord() string {
	if k.attaches {
		return "ipsec down " + k.name
	}
	return "--down"
}

// changeWord returns how the connection gets the form that the file has, for messages.
func (k *connection) changeWord() string {
	if k.attaches {
		return "ipsec reload " + k.name + " makes it as the file has it"
	}
	return "take it down first with " + k.downWord()
}

// me and peer return the ends, as seen from this host.
func (k *connection) me() *end   { return &k.ends[k.local] }
func (k *connection) peer() *end { return &k.ends[1-k.local] }

func (k *connection) mode(c *conf.Conn) error {
	k.esp, k.ah = c.Get("esp").Value, c.Get("ah").Value
	switch t := c.Get("type"); t.Value {
	case "", "tunnel":
		k.tun = true
	case "transport":
		for _, side := range sides {
			if s := c.Get(side + "subnet"); s.Value != "" {
				return s.Error("there is none in transport mode; it is between the two ends alone")
			}
		}
	case "passthrough":
		k.shunt = "%pass"
	case "drop", "reject":
		k.shunt = "%" + t.Value
	default:
		return t.Error(quote.Value(t.Value) + " is none of tunnel, transport, passthrough, drop, reject")
	}
	switch {
	case k.shunt != "" && (k.esp != "" || k.ah != ""):
		p := c.Get("esp")
		if k.esp == "" {
			p = c.Get("ah")
		}
		return p.Error("a conn of type " + c.Get("type").Value + " protects nothing; leave esp and ah out, or the type")
	case k.shunt != "" && (c.Has("masterkey") || c.Has("epoch")):
		p := c.Get("masterkey")
		if p.Value == "" {
			p = c.Get("epoch")
		}
		return p.Error("a conn of type " + c.Get("type").Value + " has no keys; leave " + p.Name + " out, or the type")
	case k.shunt == "" && k.esp == "" && k.ah == "":
		return c.Errorf("neither esp nor ah is given; give one of them at least")
	}
	return nil
}

// anyAddress reports whether the address of an end is open: it is missing, or a word
// that connections with automatic keying use for an open address.
func anyAddress(value string) bool {
	switch value {
	case "", "%any", "%any4", "%any6", "%group", "%opportunistic", "%opportunisticgroup":
		return true
	}
	return false
}

// addresses parses the two ends, and returns the texts of their next hops.
func (k *connection) addresses(c *conf.Conn, h host.Host) (hops [2]conf.Param, err error) {
	fromRoute := -1
	for i, side := range sides {
		e, p := &k.ends[i], c.Get(side)
		hops[i] = c.Get(side + "nexthop")
		if hops[i].Value == "%direct" {
			hops[i].Value = "" // the next hop is the peer itself
		}
		switch {
		case anyAddress(p.Value) && k.shunt != "":
			e.any = true
		case p.Value == "":
			return hops, c.Errorf("%s is missing: the address of that end", side)
		case anyAddress(p.Value):
			return hops, p.Error(p.Value + ": a manually keyed connection needs the address of that host")
		case p.Value != defaultRoute:
			lookUp := func(name string, _ syntax.Family) (netip.Addr, error) {
				return h.LookUp(name, k.familyOf(c, 1-i))
			}
			if e.addr, err = syntax.ParseAddr(p.Value, syntax.FamilyAny, lookUp); err != nil {
				return hops, p.Error(quote.Value(p.Value) + ": " + err.Error())
			}
			e.any = k.shunt != "" && e.addr.IsUnspecified()
		case fromRoute >= 0:
			return hops, p.Error("both ends are %defaultroute; the other end needs its address")
		case hops[i].Value != "":
			return hops, hops[i].Error("it must not be given with " + side + "=%defaultroute; it is the gateway of that route")
		default:
			fromRoute = i
		}
	}
	if k.ends[0].any && k.ends[1].any {
		return hops, c.Errorf("left and right are both any address; give the one that is this host its address, or %s", defaultRoute)
	}
	if i := fromRoute; i >= 0 {
		r, err := h.DefaultRoute(k.defaultIs6(c, 1-i))
		if err != nil {
			return hops, c.Get(sides[i]).Error(err.Error())
		}
		k.ends[i].addr, k.ends[i].nexthop = r.Local, r.Gateway
		k.follows, k.route = true, r
	}
	for i := range k.ends {
		if e := &k.ends[i]; e.any && k.ends[1-i].addr.Is6() {
			e.addr = netip.IPv6Unspecified()
		} else if e.any {
			e.addr = netip.IPv4Unspecified()
		}
	}
	l, r := k.ends[0].addr, k.ends[1].addr
	switch {
	case l == r:
		return hops, c.Errorf("left and right are both %s", klips.FormatAddr(l))
	case l.Is6() != r.Is6() && k.shunt == "":
		return hops, c.Errorf("left %s and right %s are of different families", klips.FormatAddr(l), klips.FormatAddr(r))
	}
	for i, side := range sides {
		if e := &k.ends[i]; !e.any && (e.addr.IsUnspecified() || e.addr.IsMulticast()) {
			return hops, c.Get(side).Error(klips.FormatAddr(e.addr) + " is not the address of one host")
		}
	}
	return hops, nil
}

// familyOf returns the family of the address of an end, if it is known: a name can have
// addresses of both families.
func (k *connection) familyOf(c *conf.Conn, end int) syntax.Family {
	a := k.ends[end].addr
	if !a.IsValid() {
		a, _ = syntax.ParseAddr(c.Get(sides[end]).Value, syntax.FamilyAny, nil)
	}
	return syntax.FamilyOf(a)
}

// defaultIs6 reports whether %defaultroute is the IPv6 default route. The address of
// the far end decides or, if that is open, the subnets.
func (k *connection) defaultIs6(c *conf.Conn, far int) bool {
	if a := k.ends[far].addr; a.IsValid() {
		return a.Is6()
	}
	return strings.Contains(c.Get("leftsubnet").Value+c.Get("rightsubnet").Value, ":")
}

func (k *connection) subnets(c *conf.Conn) error {
	var open [2]bool // %default: all addresses of a family that is not known yet
	for i, side := range sides {
		e, p := &k.ends[i], c.Get(side+"subnet")
		switch {
		case p.Value == "" && e.any:
			return c.Errorf("%ssubnet is missing; it must name the packets, because %s is any address", side, side)
		case p.Value == "":
			e.subnet = netip.PrefixFrom(e.addr, e.addr.BitLen())
			continue
		case p.Value == "%default":
			e.subnet = everything(e.addr)
			open[i] = true
		default:
			var err error
			if e.subnet, err = syntax.ParseSubnet(p.Value, syntax.FamilyAny, nil); err != nil {
				return p.Error(quote.Value(p.Value) + ": " + err.Error())
			}
			text, _, _ := strings.Cut(p.Value, "/")
			if a, err := syntax.ParseAddr(text, syntax.FamilyAny, nil); err == nil && a != e.subnet.Addr() {
				k.notes = append(k.notes, fmt.Sprintf("%s %s has host bits set; it is taken as %s", p.Name, quote.Value(p.Value), klips.FormatPrefix(e.subnet)))
			}
		}
		e.given = true
	}
	for i := range k.ends {
		if open[i] && !open[1-i] {
			k.ends[i].subnet = everything(k.ends[1-i].subnet.Addr())
		}
	}
	l, r := k.ends[0].subnet, k.ends[1].subnet
	if l.Addr().Is6() != r.Addr().Is6() {
		return c.Errorf("the subnets %v of left and %v of right are of different families; an end without a subnet has its own address", l, r)
	}
	return nil
}

// everything returns the subnet of all addresses of a's family.
func everything(a netip.Addr) netip.Prefix {
	p, _ := a.Prefix(0)
	return p
}

func (k *connection) updowns(c *conf.Conn) error {
	for i, side := range sides {
		k.ends[i].updown = c.Get(side + "updown").Value
		if strings.Join(strings.Fields(k.ends[i].updown), " ") == "ipsec _updown" {
			k.ends[i].updown = "" // old files name the former default script
		}
		p := c.Get(side + "firewall")
		opens, err := yes(p)
		if err != nil {
			return err
		}
		if opens {
			k.notes = append(k.notes, p.Name+" has no effect; do it in "+side+"updown")
		}
	}
	return nil
}

// checkScript returns an error if other users can change the script of this end. As with
// the file that names it, the applet manual accepts it.
func (k *connection) checkScript() error {
	if !k.attaches {
		return nil
	}
	if err := conf.CheckCommand(k.me().updown); err != nil {
		return fmt.Errorf("%supdown: %w", sides[k.local], err)
	}
	return nil
}

// nexthops parses the next hops. Only that of this host is used.
func (k *connection) nexthops(c *conf.Conn, h host.Host, hops [2]conf.Param) error {
	for i, p := range hops {
		e := &k.ends[i]
		switch {
		case p.Value == "" || e.any:
			if !e.nexthop.IsValid() {
				e.nexthop = k.ends[1-i].addr
			}
			continue
		case p.Value == defaultRoute:
			e.nexthop = k.ends[1-i].addr
			if i != k.local {
				continue // only the other end uses it
			}
			r, err := h.DefaultRoute(e.addr.Is6())
			if err != nil {
				return p.Error(err.Error())
			}
			if r.Gateway.IsValid() {
				e.nexthop = r.Gateway
			}
			k.follows, k.route = true, r
			k.route.Local = e.addr
		default:
			var err error
			if e.nexthop, err = syntax.ParseAddr(p.Value, syntax.FamilyOf(e.addr), nil); err != nil {
				return p.Error(quote.Value(p.Value) + ": " + err.Error())
			}
		}
		if e.nexthop == e.addr {
			return p.Error("the next hop is the end itself")
		}
	}
	hop, peer := k.me().nexthop, k.peer()
	k.via = hop != peer.addr && !hop.IsUnspecified() && hop.Is6() == peer.subnet.Addr().Is6() && h.Reaches(k.iface, hop)
	return nil
}
