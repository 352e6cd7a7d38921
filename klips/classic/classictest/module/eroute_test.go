package module_test

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// An inet6 eroute with a protocol is stored in the wrong place, and with a port it is
// printed wrongly.
func TestErouteIPv6(t *testing.T) {
	b := newBench(t)
	route := func(proto uint8, port uint16) klips.Eroute {
		return klips.Eroute{ID: klips.Magic(klips.SPIDrop), Selector: klips.Selector{
			Src: netip.MustParsePrefix("3049:9::/64"), Dst: netip.MustParsePrefix("3049:1::/64"), Proto: proto, DstPort: port,
		}}
	}
	plain, tcp := route(0, 0), route(6, 0)
	b.do(pfkey.AddFlow(tcp, klips.ErouteAdd))
	b.table("ipsec_eroute", "0          3049:9::600:0:0:0/72 -> 3049:1::/64        => %drop:6")
	b.refused(syscall.EFAULT, pfkey.DelFlow(plain.Selector))
	b.refused(syscall.EEXIST, pfkey.AddFlow(tcp, klips.ErouteAdd))
	b.do(pfkey.DelFlow(tcp.Selector), pfkey.AddFlow(route(6, 80), klips.ErouteAdd), pfkey.AddFlow(plain, klips.ErouteAdd))
	b.table("ipsec_eroute",
		"0          3049:9::/64        -> 3049:1::/64        => %drop",
		"0          [049:9::600]0:0:0/72 ->                    => %drop:6")
	b.Count(plain.ID, 12)
	b.table("ipsec_eroute",
		"12         3049:9::/64        -> 3049:1::/64        => %drop",
		"12         [049:9::600]0:0:0/72 ->                    => %drop:6")
}
