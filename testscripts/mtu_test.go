package testscripts

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// TestMTU: ipsec mtu predicts the length that packets have on the cable, for each algorithm
// and in both families. The longest packet that it names is sent whole, and one that is longer
// by a byte is not. Package overhead has the same test of transport mode.
func TestMTU(t *testing.T) {
	need(t, "root", "tun")
	gw := testGateways(t)
	wire, err := gw[1].Capture("eth0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Stop()
	seen := 0
	for n, c := range interopCases() {
		if c.xforms[0].proto != "tun" || slices.ContainsFunc(c.xforms, func(x xform) bool { return x.proto == "comp" }) {
			continue // in IPComp the content of a packet decides how long it becomes
		}
		c.sizes = nil
		if _, err := algorithmPing(&c, gw, 0x1000+n*16); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		longest, err := mtuOf(gw[0], c.to(gw[1]), 0)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		header := [2]int{20 + 8, 40 + 8}[c.inner]
		for total := longest.Longest - 17; total <= longest.Longest+1; total++ {
			want, err := mtuOf(gw[0], c.to(gw[1]), total)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			p := lab.Ping{Src: netip.MustParseAddr(gw[0].inner[c.inner]), Dst: c.to(gw[1]), Size: total - header}
			if _, err := gw[0].Ping(p); err != nil {
				t.Fatalf("%s: a packet of %d bytes: %v", c.name, total, err)
			}
			frames, err := wire.Frames()
			if err != nil {
				t.Fatal(err)
			}
			var lengths []int
			for _, f := range frames[seen:] {
				if l, ok := protectedLength(f.Data, gw[0].outer[c.outer]); ok {
					lengths = append(lengths, l)
				}
			}
			seen = len(frames)
			whole := len(lengths) == 1 && lengths[0] == want.Wire
			if total <= longest.Longest && !whole || total > longest.Longest && len(lengths) < 2 {
				t.Errorf("%s: a packet of %d bytes has the lengths %d on the cable, and %d was predicted; the longest is %d", c.name, total, lengths, want.Wire, longest.Longest)
			}
		}
	}
}

// to returns the address that the case pings.
func (c *interopCase) to(gw *gateway) netip.Addr { return netip.MustParseAddr(gw.inner[c.inner]) }

// lengthsOf is a part of the JSON of ipsec mtu.
type lengthsOf struct {
	Longest int `json:"longest_packet_bytes"`
	Wire    int `json:"wire_bytes"`
}

// mtuOf asks ipsec mtu about a packet of a length in bytes; 0: the longest.
func mtuOf(gw *gateway, dst netip.Addr, length int) (l lengthsOf, err error) {
	args := []string{"mtu", "--json", dst.String()}
	if length != 0 {
		args = append(args, "--len", fmt.Sprint(length))
	}
	var out, errs strings.Builder
	status := 0
	if err := gw.Do(func() error { status = runHere(gw.rundir, &out, &errs, args...); return nil }); err != nil {
		return l, err
	}
	var list struct {
		MTU []lengthsOf `json:"mtu"`
	}
	if err := json.Unmarshal([]byte(out.String()), &list); err != nil || status != 0 || len(list.MTU) != 1 {
		return l, fmt.Errorf("ipsec %s: exit status %d, %v\n%s%s", strings.Join(args, " "), status, err, &out, &errs)
	}
	return list.MTU[0], nil
}

// protectedLength returns the length of an IP packet from an address that an SA or a
// fragment of it has made.
func protectedLength(frame []byte, from string) (n int, ok bool) {
	const ethernet = 14
	var src netip.Addr
	if len(frame) < ethernet+20 {
		return 0, false
	}
	p := frame[ethernet:]
	if p[0]>>4 == 6 && len(p) < 40 {
		return 0, false
	}
	proto := byte(0)
	if p[0]>>4 == 4 {
		src, ok = netip.AddrFromSlice(p[12:16])
		n, proto = int(p[2])<<8|int(p[3]), p[9]
	} else {
		src, ok = netip.AddrFromSlice(p[8:24])
		n, proto = 40+(int(p[4])<<8|int(p[5])), p[6]
	}
	fragment := p[0]>>4 == 6 && proto == 44
	return n, ok && src.String() == from && (proto == 50 || proto == 51 || proto == 17 || fragment)
}
