package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// A ruleset is the rules of nftables in this network namespace.
type ruleset struct {
	chains   []*nftables.Chain
	rules    func(c *nftables.Chain) ([]*nftables.Rule, error)
	elements func(t *nftables.Table, set string) ([]nftables.SetElement, error)
}

// readRules opens the rules of this network namespace.
func readRules() (*ruleset, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, err
	}
	return &ruleset{
		chains: chains,
		rules:  func(ch *nftables.Chain) ([]*nftables.Rule, error) { return c.GetRules(ch.Table, ch) },
		elements: func(t *nftables.Table, set string) ([]nftables.SetElement, error) {
			s, err := c.GetSetByName(t, set)
			if err != nil {
				return nil, err
			}
			return c.GetSetElements(s)
		},
	}, nil
}

// A kind is a kind of packets that a peer sends to this host.
type kind struct {
	name  string
	proto byte   // 0: it is not known
	port  uint16 // of UDP: both ports; 0: it has none
	v4    bool   // over IPv4, or over IPv6
}

// kinds returns the kinds of packets that the SAs make; without SAs, that of ESP over IPv4.
func (s *survey) kinds() (l []kind) {
	seen := map[kind]bool{}
	for _, sa := range s.sas {
		k := kind{name: "ESP", proto: unix.IPPROTO_ESP, v4: sa.ID.Dst.Is4()}
		switch {
		case sa.ID.Proto == klips.ProtoAH:
			k.name, k.proto = "AH", unix.IPPROTO_AH
		case sa.ID.Proto != klips.ProtoESP:
			continue
		case sa.NATT.Type != klips.NATTNone:
			k.port = sa.NATT.WithPorts().SPort
			if sa.Dir.Receives() {
				k.port = sa.NATT.WithPorts().DPort
			}
			k.name, k.proto = fmt.Sprintf("UDP port %d", k.port), unix.IPPROTO_UDP
		}
		if !seen[k] {
			seen[k] = true
			l = append(l, k)
		}
	}
	if l == nil {
		l = []kind{{name: "ESP", proto: unix.IPPROTO_ESP, v4: true}}
	}
	return l
}

// firewall checks whether rules drop the packets of SAs.
func (s *survey) firewall(context.Context) {
	const check = "firewall"
	if text, err := s.read("proc/net/ip_tables_names"); err == nil && text != "" {
		s.add(warning, check, "there are rules of the older iptables in the tables "+strings.Join(strings.Fields(text), ", ")+", which are not read here",
			"look whether they accept ESP, AH and UDP port 4500: iptables-legacy-save")
	}
	r, err := s.packets()
	switch {
	case errors.Is(err, fs.ErrPermission):
		s.add(unknown, check, "this user may not read the rules of nftables", "")
		return
	case err != nil:
		s.add(ok, check, "the kernel has no nftables", "")
		return
	}
	clean := true
	for _, k := range s.kinds() {
		for _, c := range r.chains {
			if !sees(c, k) {
				continue
			}
			name := fmt.Sprintf("%s of the nftables table %s", c.Name, c.Table.Name)
			switch f, err := r.fate(c, k, 0); {
			case err != nil:
				clean = false
				s.add(unknown, check, fmt.Sprintf("the chain %s cannot be read: %v", name, err), "")
			case f == dropped:
				clean = false
				s.add(failed, check, fmt.Sprintf("the chain %s drops %s", name, k.name), "add a rule that accepts it before the one that drops: "+k.rule(c))
			case f == perhaps:
				clean = false
				s.add(warning, check, fmt.Sprintf("the chain %s drops what no rule accepts, and no rule names %s", name, k.name), "add a rule: "+k.rule(c))
			}
		}
	}
	if s.forwarded(r) && clean {
		s.add(ok, check, "no chain of nftables drops the packets of SAs", "")
	}
}

// forwarded checks whether rules drop all packets of hosts behind this one, if there are such.
// Of these nothing is known but the family.
func (s *survey) forwarded(r *ruleset) (clean bool) {
	clean = true
	for _, is6 := range [...]bool{false, true} {
		if s.behind(is6) == nil {
			continue
		}
		for _, c := range r.chains {
			k := kind{v4: !is6}
			if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || !k.in(c) {
				continue
			}
			f, err := r.fate(c, k, 0)
			if err != nil || f != dropped {
				continue // the chain has rules for some
			}
			clean = false
			table := family(c.Table.Family) + " " + c.Table.Name + " " + c.Name
			s.add(failed, "firewall", fmt.Sprintf("the chain %s of the nftables table %s drops all packets of hosts behind this one", c.Name, c.Table.Name),
				fmt.Sprintf("add rules: nft insert rule %s oifname \"ipsec*\" accept, and the same with iifname", table))
		}
	}
	return clean
}

// rule returns the command that accepts a kind in a chain.
func (k kind) rule(c *nftables.Chain) string {
	match := "meta l4proto " + strings.ToLower(k.name)
	if k.port != 0 {
		match = fmt.Sprintf("udp dport %d", k.port)
		if c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookOutput {
			match = fmt.Sprintf("udp sport %d", k.port)
		}
	}
	return fmt.Sprintf("nft insert rule %s %s %s %s accept", family(c.Table.Family), c.Table.Name, c.Name, match)
}

func family(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	}
	return "inet"
}

// sees reports whether packets of a kind, which are for this host or of it, come to a chain.
func sees(c *nftables.Chain, k kind) bool {
	if c.Hooknum == nil {
		return false
	}
	switch *c.Hooknum {
	case *nftables.ChainHookPrerouting, *nftables.ChainHookInput, *nftables.ChainHookOutput, *nftables.ChainHookPostrouting:
		return k.in(c)
	}
	return false
}

// in reports whether a chain filters packets of the family of the kind. The chains of this
// program only keep flows from passing in clear.
func (k kind) in(c *nftables.Chain) bool {
	if c.Type != nftables.ChainTypeFilter || strings.HasPrefix(c.Table.Name, "klips") {
		return false
	}
	switch c.Table.Family {
	case nftables.TableFamilyINet:
		return true
	case nftables.TableFamilyIPv4:
		return k.v4
	case nftables.TableFamilyIPv6:
		return !k.v4
	}
	return false
}

// A fate is what a chain does with packets of a kind.
type fate int

const (
	goesOn   fate = iota // it decides nothing
	accepted             // all of them
	perhaps              // only those for which a rule matches that depends on more than the kind
	dropped              // all of them
)

// maxDepth limits jumps; nftables allows 16.
const maxDepth = 16

// fate finds out what a chain does with packets of a kind.
func (r *ruleset) fate(c *nftables.Chain, k kind, depth int) (fate, error) {
	if depth > maxDepth {
		return goesOn, nil
	}
	rules, err := r.rules(c)
	if err != nil {
		return goesOn, err
	}
	some := goesOn // perhaps, if a rule accepts some packets
	for _, rule := range rules {
		m, v, err := r.match(rule, k)
		if err != nil {
			return goesOn, err
		}
		if v == nil || m == never {
			continue
		}
		f := goesOn
		switch v.Kind {
		case expr.VerdictAccept, expr.VerdictQueue:
			f = accepted
		case expr.VerdictDrop:
			f = dropped
		case expr.VerdictReturn:
			if m >= always {
				return some, nil
			}
		case expr.VerdictJump, expr.VerdictGoto:
			if target := r.chain(c.Table, v.Chain); target != nil {
				if f, err = r.fate(target, k, depth+1); err != nil {
					return goesOn, err
				}
			}
		}
		switch {
		case m >= always && f == accepted, m == named && f == dropped, m == always && f == dropped && some == goesOn:
			return f, nil
		case m == always && f == dropped:
			return perhaps, nil
		case f == accepted || f == perhaps:
			some = perhaps
		}
	}
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		if some == perhaps {
			return perhaps, nil
		}
		return dropped, nil
	}
	if c.Policy != nil {
		return accepted, nil
	}
	return some, nil
}

func (r *ruleset) chain(t *nftables.Table, name string) *nftables.Chain {
	for _, c := range r.chains {
		if c.Table.Name == t.Name && c.Table.Family == t.Family && c.Name == name {
			return c
		}
	}
	return nil
}

// A matching is whether a rule matches packets of a kind.
type matching int

const (
	never matching = iota
	sometimes
	always // it asks for nothing
	named  // it asks for the kind, and for nothing else
)

// match returns whether a rule matches packets of a kind, and its verdict; nil: it has none.
// What the rule reads of a packet, apart from its protocol and ports, is not known.
func (r *ruleset) match(rule *nftables.Rule, k kind) (m matching, v *expr.Verdict, err error) {
	m = always
	registers := map[uint32][]byte{} // those with known values
	for _, e := range rule.Exprs {
		switch e := e.(type) {
		case *expr.Meta:
			registers[e.Register] = nil
			switch e.Key {
			case expr.MetaKeyL4PROTO:
				if k.proto != 0 {
					registers[e.Register] = []byte{k.proto}
				}
			case expr.MetaKeyNFPROTO:
				registers[e.Register] = []byte{unix.NFPROTO_IPV6}
				if k.v4 {
					registers[e.Register] = []byte{unix.NFPROTO_IPV4}
				}
			}
		case *expr.Payload:
			registers[e.DestRegister] = k.payload(e)
		case *expr.Cmp:
			switch known := registers[e.Register]; {
			case known == nil || e.Op != expr.CmpOpEq && e.Op != expr.CmpOpNeq:
				m = sometimes
			case bytes.Equal(known, e.Data) != (e.Op == expr.CmpOpEq):
				return never, nil, nil
			case m == always:
				m = named
			}
		case *expr.Lookup:
			in, certain, err := r.in(rule.Table, e, registers[e.SourceRegister])
			switch {
			case err != nil:
				return never, nil, err
			case !certain:
				m = sometimes
			case in == e.Invert:
				return never, nil, nil
			case m == always:
				m = named
			}
			if e.IsDestRegSet {
				registers[e.DestRegister] = nil
			}
		case *expr.Counter, *expr.Log, *expr.Notrack:
		case *expr.Verdict:
			return m, e, nil
		case *expr.Reject:
			return m, &expr.Verdict{Kind: expr.VerdictDrop}, nil
		case *expr.Immediate:
			registers[e.Register] = e.Data
		default:
			m = sometimes
			registers = map[uint32][]byte{} // it can have changed any
		}
	}
	return m, nil, nil
}

// payload returns what a rule reads of a packet of a kind; nil: that is not known.
func (k kind) payload(e *expr.Payload) []byte {
	switch {
	case k.proto != 0 && e.Base == expr.PayloadBaseNetworkHeader && e.Len == 1 && (k.v4 && e.Offset == 9 || !k.v4 && e.Offset == 6):
		return []byte{k.proto}
	case e.Base == expr.PayloadBaseTransportHeader && k.port != 0 && e.Len == 2 && (e.Offset == 0 || e.Offset == 2):
		return []byte{byte(k.port >> 8), byte(k.port)}
	}
	return nil
}

// in reports whether a value is in a set. certain is false if that is not known.
func (r *ruleset) in(t *nftables.Table, e *expr.Lookup, value []byte) (in, certain bool, err error) {
	if value == nil || e.IsDestRegSet {
		return false, false, nil
	}
	elements, err := r.elements(t, e.SetName)
	if err != nil {
		return false, false, err
	}
	for _, el := range elements {
		if el.IntervalEnd || el.KeyEnd != nil {
			return false, false, nil // a set of ranges
		}
		in = in || bytes.Equal(el.Key, value)
	}
	return in, true, nil
}
