package clitest

import (
	"context"
	"net/netip"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A Full is a Stack with records in each table. Together the records use every field.
type Full struct{ Stack }

func id(text string) klips.SAID {
	id, err := syntax.ParseSAID(text, nil)
	if err != nil {
		panic(err)
	}
	return id
}

func flow(src, dst string) klips.Selector {
	return klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}
}

// SAs returns two groups, single SAs, and some SAs with wrong links.
func (*Full) SAs(context.Context) ([]klips.SA, error) {
	gw1, gw2 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	policy := flow("10.2.0.0/24", "10.1.0.0/24")
	policy.Proto, policy.SrcPort, policy.DstPort = 6, 80, 1024
	return []klips.SA{
		{ID: id("tun0x100@192.0.2.2"), Src: gw1, State: klips.Mature, CopyTOS: true, RefCount: klips.IdleRefs, Ref: 1,
			Life: klips.Life{AddTime: klips.Counter{Count: 60}, Allocations: klips.Counter{Count: 1}},
			Next: []klips.SAID{id("esp0x101@192.0.2.2"), id("ah0x102@192.0.2.2")}},
		{ID: id("esp0x101@192.0.2.2"), Src: gw1, State: klips.Dying, Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1},
			IV: []byte{0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff}, EncKeyBits: 128, AuthKeyBits: 160,
			Seq: 1 << 40, ESN: true, Align8: true, PathMTU: 1400, SeqWaits: 3, RefCount: klips.IdleRefs, Ref: 2, RefHim: 7, OutIf: 49152, Offload: "eth0",
			NATT: klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4501, OA: netip.MustParseAddr("10.0.0.9")},
			Used: true, Idle: 2900 * time.Millisecond,
			Life: klips.Life{
				Allocations: klips.Counter{Count: 1, Soft: 2, Hard: 3}, Bytes: klips.Counter{Count: 1<<64 - 1, Hard: 1<<64 - 1},
				AddTime: klips.Counter{Count: 60, Soft: 50, Hard: 3600}, UseTime: klips.Counter{Count: 55, Soft: 1800}, Packets: klips.Counter{Count: 12345, Hard: 99999},
			},
			Next: []klips.SAID{id("ah0x102@192.0.2.2")}},
		{ID: id("ah0x102@192.0.2.2"), Src: gw1, State: klips.Mature, Transform: klips.Transform{Auth: alg.SHA256}, AuthKeyBits: 256, RefCount: klips.IdleRefs,
			Life: klips.Life{Bytes: klips.Counter{Below: 252}}},
		{ID: id("esp0x103@192.0.2.1"), Src: gw2, Dir: klips.Inbound, State: klips.Mature, Transform: klips.Transform{Enc: alg.AESGCM}, EncKeyBits: 288,
			Window: 64, Bitmap: 0xffffffffffffffff, Seq: 70, MaxSeqDiff: 5, ReplayErrs: 6, BelowMark: 2, AuthErrs: 7, SizeErrs: 8, PadErrs: 9, Drops: drop.Counts{"bad-icv": 7, "replayed": 6},
			NATT: klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4500}, HeardAddr: gw2, HeardPort: 30001,
			SameKey: []klips.SAID{id("esp0x104@2001:db8::2")}, Next: []klips.SAID{id("tun0x105@192.0.2.1")}},
		{ID: id("tun0x105@192.0.2.1"), Src: gw2, Dir: klips.Inbound, State: klips.Mature, Policy: &policy, Flags: klips.FlagInFlow | 0x80},
		{ID: id("esp0x104@2001:db8::2"), Src: netip.MustParseAddr("2001:db8:0:0:1::1"), State: klips.Larval, Transform: klips.Transform{Enc: 253, Auth: 9}},
		{ID: id("comp0x1106@192.0.2.2"), State: klips.Dead, Transform: klips.Transform{Comp: alg.Deflate}, Uncompressed: 2000, Compressed: 1000},
		// KLIPS shows a link to a freed SA like this. Two other SAs link to one SA.
		{ID: id("ah0x107@192.0.2.2"), State: klips.Mature, Transform: klips.Transform{Auth: alg.MD5}, Next: []klips.SAID{{}}},
		{ID: id("esp0x108@192.0.2.2"), State: klips.Mature, Transform: klips.Transform{Enc: alg.Null, Auth: alg.MD5}, Next: []klips.SAID{id("ah0x102@192.0.2.2")}},
	}, nil
}

// Eroutes returns one eroute for each kind of SAID.
func (*Full) Eroutes(context.Context) ([]klips.Eroute, error) {
	web := flow("10.1.0.0/24", "10.2.0.0/24")
	web.Proto, web.SrcPort, web.DstPort = 6, 1024, 80
	list := []klips.Eroute{
		{Selector: flow("10.1.0.0/24", "10.2.0.0/24"), ID: id("tun0x100@192.0.2.2"), Also: []klips.SAID{id("tun0x101@192.0.2.2"), id("tun0x102@192.0.2.2")}, Packets: 1 << 60, PID: 4711},
		{Selector: web, ID: id("%drop")},
	}
	for _, magic := range []string{"%pass", "%reject", "%hold", "%trap", "%trapsubnet", "%passthrough4", "%passthrough6"} {
		list = append(list, klips.Eroute{Selector: flow("fd01::/64", "fd02::/64"), ID: id(magic)})
	}
	return list, nil
}

// Devices returns a device that is attached, one that waits for its device, and one
// that never was.
func (*Full) Devices(context.Context) ([]klips.Device, error) {
	return []klips.Device{
		{Name: "ipsec0", Physical: "eth0", MTU: klips.DeviceMTU, AttMTU: 1500, PhysMTU: 1400, Direct: true,
			Stats: klips.DeviceStats{TxPackets: 1, TxBytes: 2, TxErrors: 3, TxDropped: 4, RxPackets: 5, RxBytes: 6, RxErrors: 7, RxDropped: 8}, Drops: drop.Counts{"no-eroute": 4}},
		{Name: "ipsec1", Awaits: "wan0", MTU: klips.DeviceMTU},
		{Name: "ipsec2"},
	}, nil
}

// Debug returns a different mask for each area.
func (*Full) Debug(context.Context) (d klips.Debug, err error) {
	for i := range d {
		d[i] = 1 << (i + 20)
	}
	return d, nil
}

// Probe returns one ability that exists and one that is missing.
func (*Full) Probe(context.Context) ([]klips.Ability, error) {
	return []klips.Ability{{Name: "esp over IPv4"}, {Name: "ah over IPv6", Missing: "no module ah6"}}, nil
}

// Table returns an empty text.
func (*Full) Table(context.Context, string) ([]byte, error) { return nil, nil }

// Drops returns three packets of one reason.
func (*Full) Drops(context.Context) (drop.Counts, error) { return drop.Counts{"not-esp": 3}, nil }

// Unread returns two lines that cannot be read.
func (*Full) Unread(context.Context, ...string) ([]klips.UnreadLine, error) {
	return []klips.UnreadLine{
		{Table: "ipsec_spi", Number: 2, Text: "esp0x200@192.0.2.2 <\x1b[2J>", Reason: "cut short", ID: id("esp0x200@192.0.2.2")},
		{Table: "ipsec_eroute", Number: 7, Text: "", Reason: "empty"},
	}, nil
}
