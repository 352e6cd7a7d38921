package verify

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// Expressions of rules.
var (
	proto  = &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}
	proto4 = &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 9, Len: 1}
	dport  = &expr.Payload{DestRegister: 2, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
	state  = &expr.Ct{Register: 1, Key: expr.CtKeySTATE}
	accept = &expr.Verdict{Kind: expr.VerdictAccept}
	drop   = &expr.Verdict{Kind: expr.VerdictDrop}
)

func is(register uint32, data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

func isNot(register uint32, data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: data}
}

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

func rule(e ...expr.Any) []expr.Any { return e }

// TestFate: what a chain does with ESP over IPv4, or with UDP port 4500.
func TestFate(t *testing.T) {
	esp, natt := kind{"ESP", unix.IPPROTO_ESP, 0, true}, kind{"UDP port 4500", unix.IPPROTO_UDP, 4500, true}
	port := func(p uint16) expr.Any { return is(2, byte(p>>8), byte(p)) }
	inSet := func(register uint32, invert bool) expr.Any {
		return &expr.Lookup{SourceRegister: register, SetName: "protocols", Invert: invert}
	}
	for _, c := range []struct {
		name   string
		k      kind
		policy nftables.ChainPolicy
		rules  [][]expr.Any
		want   fate
	}{
		{"no rules", esp, nftables.ChainPolicyAccept, nil, accepted},
		{"no rules, drop", esp, nftables.ChainPolicyDrop, nil, dropped},
		{"a rule that drops it", esp, nftables.ChainPolicyAccept, [][]expr.Any{rule(proto, is(1, unix.IPPROTO_ESP), drop)}, dropped},
		{"a rule that drops another", esp, nftables.ChainPolicyAccept, [][]expr.Any{rule(proto, is(1, unix.IPPROTO_AH), drop)}, accepted},
		{"a rule that rejects all others", esp, nftables.ChainPolicyAccept, [][]expr.Any{rule(proto4, isNot(1, unix.IPPROTO_TCP), &expr.Reject{})}, dropped},
		{"accepted first", esp, nftables.ChainPolicyDrop, [][]expr.Any{rule(proto4, is(1, unix.IPPROTO_ESP), &expr.Counter{}, accept), rule(drop)}, accepted},
		{"dropped first", esp, nftables.ChainPolicyAccept, [][]expr.Any{rule(drop), rule(proto, is(1, unix.IPPROTO_ESP), accept)}, dropped},
		{"accepted in a state", esp, nftables.ChainPolicyDrop, [][]expr.Any{rule(state, &expr.Bitwise{SourceRegister: 1, DestRegister: 1}, isNot(1, 0), accept)}, perhaps},
		{"accepted in a state, else dropped", esp, nftables.ChainPolicyAccept, [][]expr.Any{rule(state, isNot(1, 0), accept), rule(drop)}, perhaps},
		{"accepted in a state, else dropped by name", esp, nftables.ChainPolicyAccept, [][]expr.Any{rule(state, isNot(1, 0), accept), rule(proto, inSet(1, false), drop)}, dropped},
		{"dropped in a state", esp, nftables.ChainPolicyAccept, [][]expr.Any{rule(state, isNot(1, 0), drop)}, accepted},
		{"in a set", esp, nftables.ChainPolicyDrop, [][]expr.Any{rule(proto, inSet(1, false), accept)}, accepted},
		{"not in a set", esp, nftables.ChainPolicyDrop, [][]expr.Any{rule(proto, inSet(1, true), accept)}, dropped},
		{"in a set of what is not known", esp, nftables.ChainPolicyDrop, [][]expr.Any{rule(state, inSet(1, false), accept)}, perhaps},
		{"a jump that accepts", esp, nftables.ChainPolicyDrop, [][]expr.Any{rule(jump("other"))}, accepted},
		{"a jump that decides nothing", natt, nftables.ChainPolicyDrop, [][]expr.Any{rule(jump("other"))}, dropped},
		{"a jump to nothing", esp, nftables.ChainPolicyDrop, [][]expr.Any{rule(jump("gone"))}, dropped},
		{"jumps in a circle", esp, nftables.ChainPolicyAccept, [][]expr.Any{rule(jump("in"))}, accepted},
		{"the port", natt, nftables.ChainPolicyDrop, [][]expr.Any{rule(proto, is(1, unix.IPPROTO_UDP), dport, port(4500), accept)}, accepted},
		{"another port", natt, nftables.ChainPolicyDrop, [][]expr.Any{rule(proto, is(1, unix.IPPROTO_UDP), dport, port(500), accept)}, dropped},
		{"ESP has no port", esp, nftables.ChainPolicyDrop, [][]expr.Any{rule(dport, port(500), accept)}, perhaps},
	} {
		table := &nftables.Table{Name: "fw", Family: nftables.TableFamilyINet}
		chain := func(name string, policy *nftables.ChainPolicy) *nftables.Chain {
			return &nftables.Chain{Table: table, Name: name, Policy: policy, Hooknum: nftables.ChainHookInput, Type: nftables.ChainTypeFilter}
		}
		in, other := chain("in", &c.policy), chain("other", nil)
		r := &ruleset{
			chains: []*nftables.Chain{in, other},
			rules: func(ch *nftables.Chain) (l []*nftables.Rule, err error) {
				exprs := c.rules
				if ch == other {
					exprs = [][]expr.Any{rule(proto, is(1, unix.IPPROTO_ESP), accept)}
				}
				for _, e := range exprs {
					l = append(l, &nftables.Rule{Table: table, Chain: ch, Exprs: e})
				}
				return l, nil
			},
			elements: func(*nftables.Table, string) ([]nftables.SetElement, error) {
				return []nftables.SetElement{{Key: []byte{unix.IPPROTO_AH}}, {Key: []byte{unix.IPPROTO_ESP}}}, nil
			},
		}
		if got, err := r.fate(in, c.k, 0); got != c.want || err != nil {
			t.Errorf("%s: fate %d, %v, want %d", c.name, got, err, c.want)
		}
		if !sees(in, c.k) {
			t.Errorf("%s: the chain is left out", c.name)
		}
	}
}

// TestForwarded: a chain that drops all that is forwarded is found, if there are hosts behind
// this one.
func TestForwarded(t *testing.T) {
	networks := &survey{eroutes: []klips.Eroute{{Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}}}}
	alone := &survey{eroutes: []klips.Eroute{{Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.1/32"), Dst: netip.MustParsePrefix("10.2.0.0/16")}}}}
	for _, c := range []struct {
		name   string
		s      *survey
		hook   *nftables.ChainHook
		family nftables.TableFamily
		policy nftables.ChainPolicy
		rules  []expr.Any
		clean  bool
	}{
		{"all dropped", networks, nftables.ChainHookForward, nftables.TableFamilyINet, nftables.ChainPolicyDrop, nil, false},
		{"no hosts", alone, nftables.ChainHookForward, nftables.TableFamilyINet, nftables.ChainPolicyDrop, nil, true},
		{"another hook", networks, nftables.ChainHookInput, nftables.TableFamilyINet, nftables.ChainPolicyDrop, nil, true},
		{"another family", networks, nftables.ChainHookForward, nftables.TableFamilyIPv6, nftables.ChainPolicyDrop, nil, true},
		{"some accepted", networks, nftables.ChainHookForward, nftables.TableFamilyIPv4, nftables.ChainPolicyDrop, rule(proto, is(1, unix.IPPROTO_TCP), accept), true},
		{"all accepted", networks, nftables.ChainHookForward, nftables.TableFamilyIPv4, nftables.ChainPolicyAccept, rule(proto4, is(1, unix.IPPROTO_TCP), drop), true},
		{"another chain accepts none", networks, nftables.ChainHookForward, nftables.TableFamilyIPv4, nftables.ChainPolicyAccept, rule(drop), false},
	} {
		table := &nftables.Table{Name: "fw", Family: c.family}
		ch := &nftables.Chain{Table: table, Name: "fwd", Policy: &c.policy, Hooknum: c.hook, Type: nftables.ChainTypeFilter}
		r := &ruleset{chains: []*nftables.Chain{ch}, rules: func(*nftables.Chain) (l []*nftables.Rule, err error) {
			if c.rules != nil {
				l = append(l, &nftables.Rule{Table: table, Chain: ch, Exprs: c.rules})
			}
			return l, nil
		}}
		c.s.findings = nil
		if got := c.s.forwarded(r); got != c.clean || got != (len(c.s.findings) == 0) {
			t.Errorf("%s: clean %v, %+v, want %v", c.name, got, c.s.findings, c.clean)
		}
	}
}

// TestUnreadable: rules and sets that cannot be read are errors.
func TestUnreadable(t *testing.T) {
	broken := errors.New("broken")
	table := &nftables.Table{Name: "fw"}
	c := &nftables.Chain{Table: table, Name: "in"}
	r := &ruleset{rules: func(*nftables.Chain) ([]*nftables.Rule, error) { return nil, broken }}
	if _, err := r.fate(c, kind{proto: unix.IPPROTO_ESP}, 0); err != broken {
		t.Errorf("fate = %v, want %v", err, broken)
	}
	r.rules = func(*nftables.Chain) ([]*nftables.Rule, error) {
		return []*nftables.Rule{{Table: table, Exprs: rule(proto, &expr.Lookup{SourceRegister: 1}, accept)}}, nil
	}
	r.elements = func(*nftables.Table, string) ([]nftables.SetElement, error) { return nil, broken }
	if _, err := r.fate(c, kind{proto: unix.IPPROTO_ESP}, 0); err != broken {
		t.Errorf("fate = %v, want %v", err, broken)
	}
}

// TestSees: chains of other hooks, of other families and of this program do not count.
func TestSees(t *testing.T) {
	v4, v6 := kind{"ESP", unix.IPPROTO_ESP, 0, true}, kind{"ESP", unix.IPPROTO_ESP, 0, false}
	for _, c := range []struct {
		family nftables.TableFamily
		table  string
		hook   *nftables.ChainHook
		k      kind
		want   bool
	}{
		{nftables.TableFamilyINet, "fw", nftables.ChainHookInput, v6, true},
		{nftables.TableFamilyIPv4, "fw", nftables.ChainHookOutput, v4, true},
		{nftables.TableFamilyIPv4, "fw", nftables.ChainHookOutput, v6, false},
		{nftables.TableFamilyIPv6, "fw", nftables.ChainHookPostrouting, v6, true},
		{nftables.TableFamilyIPv6, "fw", nftables.ChainHookPostrouting, v4, false},
		{nftables.TableFamilyINet, "fw", nftables.ChainHookForward, v4, false},
		{nftables.TableFamilyBridge, "fw", nftables.ChainHookInput, v4, false},
		{nftables.TableFamilyINet, "fw", nil, v4, false},
		{nftables.TableFamilyINet, "klips", nftables.ChainHookInput, v4, false},
	} {
		ch := &nftables.Chain{Table: &nftables.Table{Name: c.table, Family: c.family}, Hooknum: c.hook, Type: nftables.ChainTypeFilter}
		if got := sees(ch, c.k); got != c.want {
			t.Errorf("%+v: %v, want %v", c, got, c.want)
		}
	}
}
