package clamp

import (
	"fmt"
	"strings"

	"github.com/google/nftables"

	"github.com/klips-go/ipsec/klips"
)

// SetText returns the argument of nft(8) that does what Set does, in one line.
func (c Clamp) SetText() string {
	name := "table inet " + prefix + c.Name
	var b strings.Builder
	fmt.Fprintf(&b, "%s; delete %s; %s {", name, name, name)
	for _, ch := range c.chains() {
		hook := "postrouting"
		if ch.hook == nftables.ChainHookPrerouting {
			hook = "prerouting"
		}
		fmt.Fprintf(&b, " chain %s { type filter hook %s priority mangle;", ch.name, hook)
		for _, f := range ch.flows {
			fmt.Fprintf(&b, " %s;", c.rule(f))
		}
		b.WriteString(" };")
	}
	b.WriteString(" }")
	return b.String()
}

// RemoveText returns the argument of nft(8) that does what Remove does.
func (c Clamp) RemoveText() string { return "delete table inet " + prefix + c.Name }

// rule returns a rule in the words of nft(8).
func (c Clamp) rule(f klips.Selector) string {
	ip := "ip"
	if f.Src.Addr().Is6() {
		ip = "ip6"
	}
	text := fmt.Sprintf("%s saddr %v %s daddr %v", ip, f.Src, ip, f.Dst)
	if f.SrcPort != 0 {
		text += fmt.Sprintf(" tcp sport %d", f.SrcPort)
	}
	if f.DstPort != 0 {
		text += fmt.Sprintf(" tcp dport %d", f.DstPort)
	}
	size := fmt.Sprint(c.Size)
	if c.Size == Auto {
		size = "rt mtu"
	}
	return text + " tcp flags & syn == syn tcp option maxseg size set " + size
}
