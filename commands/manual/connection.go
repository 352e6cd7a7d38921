package manual

import (
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips"
)

// A connection is a conn whose parameters have been understood and whose two
// ends are told apart.
type connection struct {
	name  string
	shunt string // %pass, %drop or %reject; there are no SAs then
	tun   bool   // tunnel mode

	ends  [2]end // left and right, as the file has them
	local int    // which of them this host is
	iface string // the virtual device: ipsec0
	via   bool   // a route through iface can name the next hop

	spi, base           klips.SPI // one of them, unless it is a shunt
	esp, ah             string    // algorithms, as ipsec spi takes them; empty: none
	espWindow, ahWindow string    // empty: none
	notes               []string
}

// An end is left or right.
type end struct {
	addr    netip.Addr
	subnet  netip.Prefix
	given   bool // the subnet is from the file
	nexthop netip.Addr
	updown  string // the command; empty: the built-in one

	// Of the SAs that go to this end:
	encKey, authKey, ahKey string
	espSPI, ahSPI          klips.SPI // 0: as spi or spibase has it
}

// sides are the names of ends, as parameters begin with them.
var sides = [2]string{"left", "right"}

const defaultRoute = "%defaultroute"

// understand makes a connection of a conn. h is this host and me, if it is not
// the zero identity, who it is; other makes it the other end.
func understand(c *conf.Conn, h host, me identity, other bool) (*connection, error) {
	k := &connection{name: c.Name}
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
	if err := k.updowns(c); err != nil {
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

// me and peer are the ends, seen from here.
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
		return t.Error(conf.Show(t.Value) + " is none of tunnel, transport, passthrough, drop, reject")
	}
	switch {
	case k.shunt != "" && (k.esp != "" || k.ah != ""):
		p := c.Get("esp")
		if k.esp == "" {
			p = c.Get("ah")
		}
		return p.Error("a conn of type " + c.Get("type").Value + " protects nothing; leave esp and ah out, or the type")
	case k.shunt == "" && k.esp == "" && k.ah == "":
		return c.Errorf("neither esp nor ah is given; give one of them at least")
	}
	return nil
}

// addresses reads the two ends, and returns the texts of their next hops.
func (k *connection) addresses(c *conf.Conn, h host) (hops [2]conf.Param, err error) {
	fromRoute := -1
	for i, side := range sides {
		p := c.Get(side)
		hops[i] = c.Get(side + "nexthop")
		switch {
		case p.Value == "":
			return hops, c.Errorf("%s is missing: the address of that end", side)
		case p.Value != defaultRoute:
			if k.ends[i].addr, err = klips.ParseAddr(p.Value, klips.FamilyAny, nil); err != nil {
				return hops, p.Error(conf.Show(p.Value) + ": " + err.Error())
			}
		case fromRoute >= 0:
			return hops, p.Error("both ends are %defaultroute; the other end needs its address")
		case hops[i].Value != "":
			return hops, hops[i].Error("there is none beside " + side + "=%defaultroute; it is the gateway of that route")
		default:
			fromRoute = i
		}
	}
	if i := fromRoute; i >= 0 {
		r, err := h.defaultRoute(k.ends[1-i].addr.Is6())
		if err != nil {
			return hops, c.Get(sides[i]).Error(err.Error())
		}
		k.ends[i].addr, k.ends[i].nexthop = r.local, r.gateway
	}
	l, r := k.ends[0].addr, k.ends[1].addr
	switch {
	case l == r:
		return hops, c.Errorf("left and right are both %s", klips.FormatAddr(l))
	case l.Is6() != r.Is6():
		return hops, c.Errorf("left %s and right %s are of different families", klips.FormatAddr(l), klips.FormatAddr(r))
	}
	for i, side := range sides {
		if a := k.ends[i].addr; a.IsUnspecified() || a.IsMulticast() {
			return hops, c.Get(side).Error(klips.FormatAddr(a) + " is not the address of one host")
		}
	}
	return hops, nil
}

func (k *connection) subnets(c *conf.Conn) error {
	for i, side := range sides {
		e := &k.ends[i]
		p := c.Get(side + "subnet")
		if p.Value == "" {
			e.subnet = netip.PrefixFrom(e.addr, e.addr.BitLen())
			continue
		}
		family := klips.FamilyAny
		if p.Value == "%default" {
			family = klips.FamilyOf(e.addr)
		}
		var err error
		if e.subnet, err = klips.ParseSubnet(p.Value, family, nil); err != nil {
			return p.Error(conf.Show(p.Value) + ": " + err.Error())
		}
		e.given = true
	}
	l, r := k.ends[0].subnet, k.ends[1].subnet
	if l.Addr().Is6() != r.Addr().Is6() {
		return c.Errorf("the subnets %v of left and %v of right are of different families; an end without a subnet has its own address", l, r)
	}
	return nil
}

func (k *connection) updowns(c *conf.Conn) error {
	for i, side := range sides {
		k.ends[i].updown = c.Get(side + "updown").Value
		if strings.Join(strings.Fields(k.ends[i].updown), " ") == "ipsec _updown" {
			k.ends[i].updown = "" // files name the default of old
		}
		switch p := c.Get(side + "firewall"); p.Value {
		case "", "no":
		case "yes":
			k.notes = append(k.notes, p.Name+" has no effect; do it in "+side+"updown")
		default:
			return p.Error(conf.Show(p.Value) + " is neither yes nor no")
		}
	}
	return nil
}

// nexthops reads the next hops, as far as they count: that of this host.
func (k *connection) nexthops(c *conf.Conn, h host, hops [2]conf.Param) error {
	for i, p := range hops {
		e := &k.ends[i]
		switch p.Value {
		case "":
			if !e.nexthop.IsValid() {
				e.nexthop = k.ends[1-i].addr
			}
			continue
		case defaultRoute:
			e.nexthop = k.ends[1-i].addr
			if i != k.local {
				continue // the other end's affair
			}
			r, err := h.defaultRoute(e.addr.Is6())
			if err != nil {
				return p.Error(err.Error())
			}
			if r.gateway.IsValid() {
				e.nexthop = r.gateway
			}
		default:
			var err error
			if e.nexthop, err = klips.ParseAddr(p.Value, klips.FamilyOf(e.addr), nil); err != nil {
				return p.Error(conf.Show(p.Value) + ": " + err.Error())
			}
		}
		if e.nexthop == e.addr {
			return p.Error("the next hop is the end itself")
		}
	}
	hop, peer := k.me().nexthop, k.peer()
	k.via = hop != peer.addr && hop.Is6() == peer.subnet.Addr().Is6() && h.reaches(k.iface, hop)
	return nil
}
