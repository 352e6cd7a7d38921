package eroute

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/netdb"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// options is the option table.
func options() []getopt.Option {
	family := []string{"inet", "inet6"}
	port := []string{"<service>"}
	target := []string{"<said>"}
	for spi := klips.SPIPass; spi <= klips.SPITrapSubnet; spi++ {
		target = append(target, klips.Magic(spi).String())
	}
	return append([]getopt.Option{
		{Name: "add", Help: "add an eroute: packets of FLOW go to the SA"},
		{Name: "replace", Help: "add an eroute, or replace the one for the same FLOW"},
		{Name: "addin", Help: "accept only packets of FLOW through the SA and its group"},
		{Name: "replacein", Help: "the same as --addin"},
		{Name: "del", Help: "remove the eroute for exactly this FLOW"},
		{Name: "clear", Help: "remove all eroutes"},
		{Name: "eraf", Arg: "FAMILY", Help: "address family of --src and --dst; must come before them", Values: family},
		{Name: "src", Arg: "SUBNET", Help: "where packets are from: ADDR/BITS, ADDR/MASK or %default"},
		{Name: "dst", Arg: "SUBNET", Help: "where packets go to"},
		{Name: "transport-proto", Arg: "PROTO", Help: "their protocol, name or number; 0 is any, tcp,udp both", Values: []string{"tcp", "udp", tcpAndUDP, "icmp", "ipv6-icmp", "sctp", "gre"}},
		{Name: "src-port", Arg: "PORT", Help: "their source port, name or number; 0 is any", Values: port},
		{Name: "dst-port", Arg: "PORT", Help: "their destination port, name or number; 0 is any", Values: port},
		{Name: "said", Arg: "SAID", Help: "the SA, or %pass, %drop, %reject, %hold, %trap, %trapsubnet", Values: target},
		{Name: "also", Arg: "SAID", Help: "a further SA: packets are spread over all of them, each flow to one; may be repeated", Values: []string{"<said>"}},
		{Name: "af", Arg: "FAMILY", Help: "address family of --edst; must come before it", Values: family},
		{Name: "edst", Arg: "ADDR", Help: "destination of the SA: address or name"},
		{Name: "spi", Arg: "SPI", Help: "number of the SA, 0x100 or more"},
		{Name: "proto", Arg: "PROTO", Help: "protocol of the SA", Values: []string{"ah", "esp", "tun", "comp"}},
		cli.JSONOption("the list"),
	}, cli.CommonOptions()...)
}

// parserTable is options, computed once: a batch parses many command lines in one
// process.
func parserTable() []getopt.Option {
	computed.Do(func() { computed.table = options() })
	return computed.table
}

var computed struct {
	sync.Once
	table []getopt.Option
}

// A request is a parsed command line.
type request struct {
	cli.Common
	cli.Plain
	by     string // the option that chose the action; "": a listing
	eroute klips.Eroute
	notes  []string // printed if the request is carried out
}

// A parser collects options. given holds the texts of the options that have a value:
// each may come once.
type parser struct {
	req        request
	env        *cli.Env
	given      cli.Given
	other      bool // an option that a listing does not have
	family, af syntax.Family
	id         klips.SAID
	also       []klips.SAID
	both       bool // the protocols are TCP and UDP
}

// tcpAndUDP is the value of --transport-proto for both; in a selector it is a port without a
// protocol.
const tcpAndUDP = "tcp,udp"

// parse reads a command line. The common options of the request are valid also with an
// error.
func parse(env *cli.Env, args []string) (*request, error) {
	p := &parser{env: env}
	err := p.req.Parse(parserTable(), args, getopt.EnvMode(env.Getenv), p.option)
	if err == nil && !p.req.Help && !p.req.Version {
		err = p.finish()
	}
	return &p.req, err
}

// option handles one option.
func (p *parser) option(name, value string) error {
	p.other = true
	switch name {
	case "add", "replace", "addin", "replacein", "del", "clear":
		if p.req.by != "" {
			return cli.Usagef("--%s after --%s; give one of --add, --replace, --addin, --replacein, --del and --clear", name, p.req.by)
		}
		p.req.by = name
		return nil
	}
	if name != "also" { // it may be repeated
		if err := p.given.Add(name, value); err != nil {
			return err
		}
	}
	if err := p.conflict(name); err != nil {
		return err
	}
	if err := p.value(name, value); err != nil {
		return cli.Usagef("--%s %s: %w", name, quote.Value(value), err)
	}
	return nil
}

// conflict refuses a second way to name the SA.
func (p *parser) conflict(name string) error {
	switch name {
	case "said":
		for _, part := range [...]string{"af", "edst", "spi", "proto"} {
			if p.given.Has(part) {
				return cli.Usagef("--said and --%s both name the SA; give one", part)
			}
		}
	case "af", "edst", "spi", "proto":
		if p.given.Has("said") {
			return cli.Usagef("--said and --%s both name the SA; give one", name)
		}
	}
	return nil
}

// value parses the value of an option.
func (p *parser) value(name, value string) (err error) {
	s := &p.req.eroute.Selector
	switch name {
	case "eraf":
		p.family, err = syntax.ParseFamily(value)
	case "src":
		s.Src, err = p.subnet(name, value)
	case "dst":
		s.Dst, err = p.subnet(name, value)
	case "transport-proto":
		if p.both = value == tcpAndUDP; !p.both {
			s.Proto, err = netdb.ParseProtocol(value)
		}
	case "src-port":
		s.SrcPort, err = netdb.ParsePort(value)
	case "dst-port":
		s.DstPort, err = netdb.ParsePort(value)
	case "said":
		p.id, err = p.said(value)
	case "also":
		var id klips.SAID
		id, err = p.said(value)
		p.also = append(p.also, id)
	case "af":
		p.af, err = syntax.ParseFamily(value)
	case "edst":
		p.id.Dst, err = syntax.ParseAddr(value, p.af, p.env.Resolver)
	case "spi":
		var n uint64
		if n, err = syntax.ParseNumber(value, 0, 0xffffffff); err == nil && klips.SPI(n) < klips.MinSPI {
			return reserved()
		}
		p.id.SPI = klips.SPI(n)
	case "proto":
		p.id.Proto, err = syntax.ParseProto(value)
	}
	return err
}

// said parses the SAID of an SA or of a shunt.
func (p *parser) said(value string) (klips.SAID, error) {
	id, err := syntax.ParseSAID(value, p.env.Resolver)
	if err == nil && id.SPI < klips.MinSPI && !isPassthrough(id) {
		return id, reserved()
	}
	return id, err
}

// subnet parses a subnet. Host bits are dropped, with a note: a user who writes
// 10.1.0.1/16 may mean one host.
func (p *parser) subnet(name, value string) (netip.Prefix, error) {
	s, err := syntax.ParsePrefix(value, p.family, p.env.Resolver)
	if err == nil && s != s.Masked() {
		p.req.notes = append(p.req.notes, fmt.Sprintf("--%s %s has host bits set; it is taken as %v (the host alone is %v/%d)",
			name, quote.Value(value), s.Masked(), s.Addr(), s.Addr().BitLen()))
	}
	return s.Masked(), err
}

func reserved() error { return errors.New("SPIs below 0x100 are reserved") }

// isPassthrough reports whether id is %passthrough4 or %passthrough6.
func isPassthrough(id klips.SAID) bool {
	return id.Proto == klips.ProtoTun && id.SPI == 0 && id.Dst.IsUnspecified()
}

// finish checks the options against each other, and completes the request.
func (p *parser) finish() error {
	r := &p.req
	if r.by == "" {
		if p.other {
			return cli.Usagef("nothing to do; give one of --add, --replace, --addin, --replacein, --del and --clear")
		}
		return nil
	}
	if r.JSON {
		return cli.Usagef("--json is for the list of eroutes; it does not go with --%s", r.by)
	}
	s := r.eroute.Selector
	if p.given.Has("src-port") || p.given.Has("dst-port") {
		if s.Proto != 6 && s.Proto != 17 && !p.both {
			return cli.Usagef("ports need --transport-proto tcp, udp or %s", tcpAndUDP)
		}
	}
	if p.both && !s.OfBoth() {
		return cli.Usagef("--transport-proto %s needs a port; give --src-port or --dst-port", tcpAndUDP)
	}
	if r.by == "clear" {
		r.notes = nil // the flow is not used
		return nil
	}
	if r.by != "del" {
		if err := p.identity(); err != nil {
			return err
		}
		if err := p.further(); err != nil {
			return err
		}
	}
	return p.flow()
}

// identity checks that the SA is complete.
func (p *parser) identity() error {
	p.req.eroute.ID = p.id
	if p.given.Has("said") {
		return nil
	}
	var missing []string
	parts := [...]string{"af", "edst", "spi", "proto"}
	for _, part := range parts {
		if !p.given.Has(part) {
			missing = append(missing, "--"+part)
		}
	}
	switch len(missing) {
	case 0:
	case len(parts):
		return cli.Usagef("--%s needs an SA: --said SAID, or --af, --edst, --spi and --proto", p.req.by)
	default:
		return cli.Usagef("--%s needs an SA, and of --af, --edst, --spi and --proto there is no %s", p.req.by, strings.Join(missing, ", "))
	}
	if f := syntax.FamilyOf(p.id.Dst); f != p.af {
		return cli.Usagef("--edst is an %s address, but --af says %s", f, p.af)
	}
	return nil
}

// further checks the further SAs.
func (p *parser) further() error {
	r := &p.req
	if len(p.also) > 0 && r.policy() {
		return cli.Usagef("--also is for --add and --replace; set the inbound policy of each SA with a --%s of its own", r.by)
	}
	r.eroute.Also = p.also
	id, fault := r.eroute.AlsoFault()
	if fault == klips.FaultNone {
		return nil
	}
	option := "--also"
	if id == p.id && fault == klips.FaultAlsoShunt {
		option = "--said"
	}
	return cli.Usagef("%s %v: %s", option, id, explain.Fault(fault))
}

// flow checks that the flow is complete and of one address family.
func (p *parser) flow() error {
	s := p.req.eroute.Selector
	for _, part := range [...]struct {
		name   string
		subnet netip.Prefix
	}{{"src", s.Src}, {"dst", s.Dst}} {
		if !part.subnet.IsValid() {
			return cli.Usagef("--%s needs --%s SUBNET", p.req.by, part.name)
		}
		if f := syntax.FamilyOf(part.subnet.Addr()); p.family != syntax.FamilyAny && f != p.family {
			return cli.Usagef("--%s %s is %s, but --eraf says %s", part.name, part.subnet, f, p.family)
		}
	}
	if s.Src.Addr().Is6() != s.Dst.Addr().Is6() {
		return cli.Usagef("--src %s and --dst %s are of different families", s.Src, s.Dst)
	}
	return nil
}
