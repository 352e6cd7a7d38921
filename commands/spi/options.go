package spi

import (
	"errors"
	"math"
	"net/netip"
	"strings"
	"sync"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// options returns the option table with the values for completion.
func options() []getopt.Option {
	opts := table()
	for i := range opts {
		switch o := &opts[i]; o.Name {
		case "ah":
			o.Values = names(syntax.AHNames())
		case "esp":
			o.Values = names(syntax.ESPNames())
		case "comp":
			o.Values = names(syntax.CompNames())
		}
	}
	return opts
}

// table returns the option table for the parser. It leaves out the list of algorithms,
// which would take more time than the whole call.
func table() []getopt.Option {
	family := []string{"inet", "inet6"}
	said, key := []string{"<said>"}, []string{"<file>"}
	return append([]getopt.Option{
		{Name: "ah", Arg: "ALG", Help: "make an AH SA"},
		{Name: "esp", Arg: "ALG", Help: "make an ESP SA"},
		{Name: "comp", Arg: "ALG", Help: "make an IPComp SA"},
		{Name: "ip4", Help: "make an IP-in-IP SA whose outer header is IPv4"},
		{Name: "ip6", Help: "make an IP-in-IP SA whose outer header is IPv6"},
		{Name: "del", Help: "remove the SA, and with it the others of its group"},
		{Name: "clear", Help: "remove all SAs"},
		{Name: "get", Help: "print the present lifetime of the SA"},
		{Name: "said", Arg: "SAID", Help: "the SA, as one word: esp0x1234@192.0.2.1", Values: said},
		{Name: "af", Arg: "FAMILY", Help: "address family of --edst and --src; must come before them", Values: family},
		{Name: "edst", Arg: "ADDR", Help: "destination of the SA: address or name"},
		{Name: "spi", Arg: "SPI", Help: "number of the SA, 0x100 or more"},
		{Name: "proto", Arg: "PROTO", Help: "protocol of the SA", Values: []string{"ah", "esp", "tun", "comp"}},
		{Name: "src", Arg: "ADDR", Help: "source of the outer header: address or name; default any"},
		{Name: "dst", Arg: "ADDR", Help: "destination of the outer header; only checked, because it is always that of the SA"},
		{Name: "authkey", Arg: "KEY", Help: "authentication key: 0xHEX, 0sBASE64, 0tTEXT, @FILE, or @- for standard input", Values: key},
		{Name: "enckey", Arg: "KEY", Help: "encryption key, like --authkey", Values: key},
		{Name: "iv", Arg: "IV", Help: "only checked; IVs are random", Hidden: true},
		{Name: "replay_window", Arg: "PACKETS", Help: "anti-replay window, 1 to 64; up to 4096 if the stack supports it"},
		{Name: "esn", Help: "sequence numbers of 64 bits, for ESP and AH; with a window of 64 unless one is given", Whole: true},
		{Name: "align8", Help: "pad AH headers over IPv4 to 8 bytes, as Linux does", Whole: true},
		{Name: "copy-tos", Help: "give outer headers the TOS or traffic class of the packet inside, for --ip4 and --ip6", Whole: true},
		{Name: "seq", Arg: "NUMBER", Help: "sequence number that counts as the last one sent, for ESP and AH", Whole: true},
		{Name: "replay-seq", Arg: "NUMBER", Help: "sequence number up to which all packets count as received; needs a window", Whole: true},
		{Name: "life", Arg: "LIMITS", Help: "lifetime: {soft|hard}-{allocations|bytes|addtime|usetime|packets}=N[,...]"},
		{Name: "natt", Arg: "TYPE", Help: "encapsulate ESP in UDP", Values: []string{"nonesp", "nonike", "none"}},
		{Name: "sport", Arg: "PORT", Help: "UDP port of the SA's destination (as KLIPS has it)"},
		{Name: "dport", Arg: "PORT", Help: "UDP port of the SA's source (as KLIPS has it)"},
		{Name: "saref", Arg: "REF", Help: "SA reference to give to this SA; it is printed"},
		{Name: "sarefme", Arg: "REF", Help: "the same as --saref", Same: "saref"},
		{Name: "saref_me", Arg: "REF", Help: "the same as --saref", Same: "saref", Hidden: true},
		{Name: "sarefhim", Arg: "REF", Help: "SA reference of the peer's SA"},
		{Name: "saref_him", Arg: "REF", Help: "the same as --sarefhim", Same: "sarefhim", Hidden: true},
		{Name: "dumpsaref", Help: "print the SA references"},
		{Name: "outif", Arg: "NUMBER", Help: "device for the SA's packets: 49152 and the N of ipsecN"},
		{Name: "offload", Arg: "DEV", Help: "let this network device encrypt and decrypt, for ESP on stack xfrm", Whole: true},
		{Name: "insecure-reuse", Help: "let the SA send with the AES-GCM or ChaCha20-Poly1305 key of another SA; for laboratories", Whole: true},
		{Name: "listenreply", Help: "wait for the stack's reply and report it"},
		cli.JSONOption("the list"),
	}, cli.CommonOptions()...)
}

// parserTable is table, computed once: a batch parses many command lines in one
// process.
func parserTable() []getopt.Option {
	computed.Do(func() { computed.table = table() })
	return computed.table
}

var computed struct {
	sync.Once
	table []getopt.Option
}

func names(list []syntax.AlgName) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.Name
	}
	return out
}

// An action is the action that a command line selects.
type action uint8

const (
	actNone action = iota
	actList
	actAdd
	actDel
	actGet
	actClear
)

// A request is a parsed command line.
type request struct {
	cli.Common
	action      action
	spec        klips.SASpec // actDel and actGet use only its ID
	dumpRef     bool
	listenReply bool
	notes       []string // notes about options without effect
}

// A parser collects options. given holds the texts of options that may come only once.
type parser struct {
	req    request
	env    *cli.Env
	given  cli.Given
	by     string // the option that chose the action
	proto  klips.Proto
	family syntax.Family // the one stated last
	said   bool
	id     klips.SAID // from --said, or the parts given so far
	src    netip.Addr
	alg    string // the value of --esp, --ah or --comp
	bits   int    // length of the encryption key that alg requires, or 0
	life   life
	stdin  string // the option that has read standard input
	other  bool   // an option that a listing does not have
	// srcEarly is --said or --af, if it came after --src.
	srcEarly string
	// edstLost is set if --af came after --edst and has cleared it.
	edstLost bool
}

// parse reads a command line. The caller must clear the keys in the request. With an
// error there are no keys, and the common options are still valid.
func parse(env *cli.Env, args []string) (*request, error) {
	p := &parser{env: env}
	err := p.req.Parse(parserTable(), args, getopt.EnvMode(env.Getenv), p.option)
	if err == nil && !p.req.Help && !p.req.Version {
		err = p.finish()
	}
	if err != nil {
		p.req.spec.ClearKeys()
	}
	return &p.req, err
}

// option handles one option.
func (p *parser) option(name, value string) error {
	if err := p.once(name, value); err != nil {
		return err
	}
	switch name {
	case "dumpsaref":
		p.req.dumpRef = true
		return nil
	case "listenreply":
		p.req.listenReply = true
		return nil
	case "get":
	default:
		p.other = true
	}
	switch name {
	case "ah", "esp", "comp", "ip4", "ip6", "del", "clear", "get":
		return p.choose(name, value)
	case "said", "af", "edst", "spi", "proto", "src", "dst":
		return p.identify(name, value)
	}
	return p.attribute(name, value)
}

// once refuses a second use of an option.
func (p *parser) once(name, value string) error {
	switch name {
	case "said", "af", "edst", "spi", "proto", "src", "dst":
	default:
		return nil
	}
	return p.given.Add(name, value)
}

// choose handles an option that selects the action.
func (p *parser) choose(name, value string) error {
	if p.by != "" {
		return cli.Usagef("--%s after --%s; give one of --ah, --esp, --comp, --ip4, --ip6, --del, --get and --clear", name, p.by)
	}
	p.by, p.req.action = name, actAdd
	var err error
	switch name {
	case "ah":
		p.proto, p.alg = klips.ProtoAH, value
		p.req.spec.Auth, err = syntax.ParseAH(value)
	case "esp":
		p.proto, p.alg = klips.ProtoESP, value
		p.req.spec.Transform, p.bits, err = syntax.ParseESP(value)
	case "comp":
		p.proto, p.alg = klips.ProtoComp, value
		p.req.spec.Comp, err = syntax.ParseComp(value)
	case "ip4":
		p.proto, p.family = klips.ProtoTun, syntax.Family4
	case "ip6":
		p.proto, p.family = klips.ProtoTun, syntax.Family6
	case "del":
		p.req.action = actDel
	case "get":
		p.req.action = actGet
	case "clear":
		p.req.action = actClear
	}
	return wrong(name, value, err)
}

// identify handles an option that names the SA.
func (p *parser) identify(name, value string) error {
	var err error
	switch name {
	case "said":
		for _, part := range [...]string{"proto", "edst", "spi"} {
			if v, ok := p.given.Value(part); ok {
				return cli.Usagef("--said and --%s %s both name the SA; give one", part, quote.Value(v))
			}
		}
		var id klips.SAID
		if id, err = syntax.ParseSAID(value, p.env.Resolver); err != nil {
			break
		}
		if f := syntax.FamilyOf(id.Dst); p.family != syntax.FamilyAny && p.family != f {
			return cli.Usagef("--said %s is %s, but %s was asked for before it", quote.Value(value), f, p.family)
		}
		p.said, p.id = true, id
		p.srcBefore(name)
	case "af":
		if p.said {
			return cli.Usagef("--af after --said; the SAID has the family in it")
		}
		p.family, err = syntax.ParseFamily(value)
		p.edstLost = p.id.Dst.IsValid()
		p.srcBefore(name)
	case "edst", "spi", "proto":
		if p.said {
			return cli.Usagef("--said and --%s %s both name the SA; give one", name, quote.Value(value))
		}
		err = p.part(name, value)
	case "src":
		p.src, err = syntax.ParseAddr(value, p.addrFamily(), p.env.Resolver)
	case "dst":
		_, err = syntax.ParseAddr(value, p.addrFamily(), p.env.Resolver)
	}
	return wrong(name, value, err)
}

// srcBefore records that --src came before the option that states the SA's family.
func (p *parser) srcBefore(by string) {
	if p.src.IsValid() {
		p.srcEarly = by
	}
}

// part handles an option that is a part of the SAID.
func (p *parser) part(name, value string) (err error) {
	switch name {
	case "edst":
		p.id.Dst, err = syntax.ParseAddr(value, p.family, p.env.Resolver)
	case "proto":
		p.id.Proto, err = syntax.ParseProto(value)
	case "spi":
		var n uint64
		if n, err = syntax.ParseNumber(value, 0, 0xffffffff); err == nil && klips.SPI(n) < klips.MinSPI {
			return errors.New("SPIs below 0x100 are reserved")
		}
		p.id.SPI = klips.SPI(n)
	}
	return err
}

// addrFamily returns the family that --src and --dst must have.
func (p *parser) addrFamily() syntax.Family {
	if p.family == syntax.FamilyAny && p.said {
		return syntax.FamilyOf(p.id.Dst)
	}
	return p.family
}

// attribute handles an option that describes the SA.
func (p *parser) attribute(name, value string) (err error) {
	number := func(max uint64) (n uint64) {
		n, err = syntax.ParseNumber(value, 0, max)
		return n
	}
	s := &p.req.spec
	switch name {
	case "authkey":
		clear(s.AuthKey)
		s.AuthKey, err = p.key(name, value)
		return err
	case "enckey":
		clear(s.EncKey)
		s.EncKey, err = p.key(name, value)
		return err
	case "iv":
		_, err = syntax.ParseKey(value)
	case "replay_window":
		s.Window = uint32(number(maxWindow))
		if err == nil && s.Window == 0 {
			return cli.Usagef("--replay_window %s: the window has 1 to %d packets; leave the option out to have none", quote.Value(value), KLIPSWindow)
		}
	case "esn":
		s.ESN = true
	case "align8":
		s.Align8 = true
	case "copy-tos":
		s.CopyTOS = true
	case "seq":
		s.Seq = new(number(math.MaxUint64))
	case "replay-seq":
		s.ReplaySeq = new(number(math.MaxUint64))
	case "life":
		if err = p.life.parse(value); err != nil {
			return cli.Usagef("--life: %w", err)
		}
	case "natt":
		s.NATT.Type, err = parseNATT(value)
	case "sport":
		s.NATT.DPort = uint16(number(0xffff)) // exchanged in the message
	case "dport":
		s.NATT.SPort = uint16(number(0xffff))
	case "saref":
		s.Ref = uint32(number(maxRef))
		p.req.dumpRef = p.req.dumpRef || s.Ref != 0
	case "sarefhim":
		s.RefHim = uint32(number(maxRef))
	case "insecure-reuse":
		s.ReuseKey = true
	case "offload":
		s.Offload = value
	case "outif":
		s.OutIf = uint16(number(0xffff))
	}
	return wrong(name, value, err)
}

// KLIPSWindow is the replay window in packets that every stack has, and the default with
// extended sequence numbers.
const KLIPSWindow = 64

// Limits of values.
const (
	maxWindow = 4096 // packets: the largest replay window of any stack
	maxRef    = 1<<31 - 1
)

func parseNATT(text string) (klips.NATTType, error) {
	switch strings.ToLower(text) {
	case "none":
		return klips.NATTNone, nil
	case "nonike":
		return klips.NATTNonIKE, nil
	case "nonesp":
		return klips.NATTNonESP, nil
	}
	n, err := syntax.ParseNumber(text, 0, uint64(klips.NATTNonESP))
	if err != nil {
		return 0, &syntax.Error{Kind: syntax.Word, Msg: "not one of nonesp (RFC 3948), nonike (draft-02), none"}
	}
	return klips.NATTType(n), nil
}

// wrong returns a usage error about an option's value.
func wrong(name, value string, err error) error {
	if err == nil {
		return nil
	}
	return cli.Usagef("--%s %s: %w", name, quote.Value(value), err)
}
