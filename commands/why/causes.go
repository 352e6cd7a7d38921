package why

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/hints"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
)

// keepalive is the length of a keepalive for NATs in UDP, in bytes.
const keepalive = 8 + 1

// causes finds the likely cause of a finding.
type causes struct {
	t *klips.Snapshot
	*finding
}

// find sets cause, see and mend.
func (c *causes) find() {
	reason, ok := drop.Parse(c.reason)
	if !ok {
		c.cause = "a reason of a later version of this program"
		return
	}
	meaning := reason.Meaning()
	if rfc := reason.RFC(); rfc != "" {
		meaning += " (" + rfc + ")"
	}
	if c.explain(reason); c.cause == "" {
		c.cause = meaning
	} else {
		c.means = meaning
	}
}

// explain finds more about a reason than its meaning, if there is more.
func (c *causes) explain(reason drop.Reason) {
	sa := c.sa()
	switch reason {
	case drop.NoSA:
		c.noSA()
	case drop.BadICV, drop.BadPadding:
		c.badICV(sa)
	case drop.BadPacket:
		c.because(c.of(sa)+"a header is not valid: most likely the algorithms of the two ends differ, so that the lengths do not fit", []string{"ipsec spi on both ends"}, nil)
	case drop.Replayed, drop.TooOld, drop.BelowMark:
		c.replay(reason, sa)
	case drop.WrongSource:
		c.wrongSource(sa)
	case drop.WrongUDP:
		c.wrongUDP(sa)
	case drop.WrongOrder:
		c.wrongOrder(sa)
	case drop.NoTunnel:
		c.because(c.of(sa)+"the packet has no tunnel header where its group has a tun SA, or the header has other addresses: the peer sends in transport mode, or its tun SA has another --src",
			[]string{"ipsec spigrp on both ends"}, []string{"make the same group on both ends"})
	case drop.NoPolicy:
		c.because(c.of(sa)+"its group has no inbound policy, and the knob inbound_policy_required is on", nil,
			[]string{"ipsec eroute --addin --src NETWORK-OF-THE-PEER --dst NETWORK-HERE --said SAID"})
	case drop.Policy:
		c.policy(sa)
	case drop.Expired:
		if sa != nil && c.limit(sa) == "" && sa.State == klips.Mature {
			c.because(c.of(sa)+"its lifetime was over then; it has been made again", []string{"ipsec spi"}, nil)
			break
		}
		c.because(c.of(sa)+"its lifetime is over"+c.limit(sa), []string{"ipsec spi"}, []string{"ipsec rekey NAME for a connection, or new SAs on both ends"})
	case drop.NoNumbers:
		c.because(c.of(sa)+"all its sequence numbers are used", nil, []string{"ipsec rekey NAME, or a new SA with a new key on both ends; --esn has enough numbers for ever"})
	case drop.NotReserved:
		c.because(c.of(sa)+"its next sequence numbers could not be written to the state directory in time: the disk is full, slow or read-only", []string{"ipsec setup status"}, []string{"make room in the directory of IPSEC_STATEDIR"})
	case drop.NotUsable:
		c.because(c.of(sa)+"it has no keys yet, or is being removed", []string{"ipsec spi"}, nil)
	case drop.NoEroute:
		c.noEroute()
	case drop.ErouteDrop, drop.ErouteReject:
		c.shunt(reason)
	case drop.ErouteTrap:
		c.because("its eroute is to %trap or %trapsubnet, and no key daemon has registered to make an SA", []string{"ipsec eroute"}, []string{"ipsec eroute --replace … --said SAID"})
	case drop.ErouteHold, drop.HoldExpired, drop.HoldEnded, drop.HoldFull:
		c.because("the packet waited for an SA that no key daemon and no command has made", []string{"ipsec eroute", "ipsec pf_key shows the requests"},
			[]string{"ipsec eroute --replace … --said SAID"})
	case drop.TooBig:
		c.because("the packet is longer than the way takes and must not be cut; its sender got an ICMP error", c.trace(),
			[]string{"mtu=auto or mss=auto in ipsec.conf, or a smaller MTU of the device that it came from"})
	case drop.NotSent:
		c.because("the physical device did not take the protected packet: it is down or full, or there is no route or neighbour for the peer", c.trace(), []string{"ip route get PEER; ip link"})
	case drop.Detached:
		c.detached()
	case drop.Nesting:
		c.because("the packet goes round in a circle: the eroute of a protected packet leads into another group again and again", c.trace(), nil)
	case drop.NotDelivered:
		c.because("the packet came out of a tunnel, and the virtual device did not take it: it is down", []string{"ip link show type tun"}, []string{"ip link set ipsec0 up"})
	case drop.NotESP:
		if p := c.last; p != nil && p.Proto == unix.IPPROTO_UDP && (p.Length == 20+keepalive || p.Length == 40+keepalive) {
			c.because("a keepalive of a peer, which keeps the mapping of a NAT alive (RFC 3948 section 4): nothing is wrong", nil, nil)
			break
		}
		c.because("packets came to a port of ESP in UDP that are no ESP: keepalives of a NAT, or a peer without --natt", nil, nil)
	}
}

// because sets the cause, with the meaning of the reason as a line of its own.
func (c *causes) because(cause string, see, mend []string) {
	c.cause, c.see, c.mend = cause, append(c.see, see...), append(c.mend, mend...)
}

// of returns the beginning of a cause: the SA that it is about, which may be gone.
func (c *causes) of(sa *klips.SA) string {
	switch {
	case sa != nil:
		return sa.ID.String() + ": "
	case c.last != nil && c.last.SA.SPI != 0:
		return c.last.SA.String() + ": "
	}
	return ""
}

// sa returns the SA that the newest packet was dropped because of, else the one that has
// dropped most; nil: none is known.
func (c *causes) sa() *klips.SA {
	if p := c.last; p != nil {
		if sa := c.withID(p.SA); sa != nil {
			return sa
		}
		if sa := c.withID(named(p)); sa != nil && p.Inbound {
			return sa
		}
	}
	if len(c.sas) > 0 {
		return c.sas[0].SA
	}
	return nil
}

// named returns the SAID in the outermost header that was left of a packet.
func named(p *klips.Dropped) klips.SAID {
	return klips.SAID{Dst: p.Dst, SPI: p.SPI, Proto: klips.Proto(p.Proto)}
}

// withID returns the SA with a SAID; nil: there is none.
func (c *causes) withID(id klips.SAID) *klips.SA {
	i := slices.IndexFunc(c.t.SAs, func(sa klips.SA) bool { return sa.ID == id })
	if i < 0 {
		return nil
	}
	return &c.t.SAs[i]
}

// trace returns the command that shows what happens to the newest packet.
func (c *causes) trace() []string {
	if c.last == nil || !c.last.Src.IsValid() || c.last.Inbound {
		return nil
	}
	return []string{fmt.Sprintf("ipsec trace --len %d %s", c.last.Length, hints.Operands(flow(c.last)))}
}

func (c *causes) detached() {
	see := []string{"ipsec tncfg"}
	var d *klips.Device // that of the last packet, if there is one
	if c.last != nil {
		if i := slices.IndexFunc(c.t.Devices, func(d klips.Device) bool { return d.Name == c.last.Device }); i >= 0 {
			d = &c.t.Devices[i]
		}
	}
	switch {
	case d == nil:
		c.because("the device is attached to no physical device", see, []string{"ipsec tncfg --attach --virtual ipsec0 --physical eth0"})
	case d.Physical != "":
		c.because(d.Name+" was attached to no physical device then; it is attached now", see, nil)
	default:
		why, mend := hints.Detached(*d)
		c.because(why, see, []string{mend})
	}
}

func (c *causes) noSA() {
	p := c.last
	switch {
	case p == nil:
		c.because("an SPI that the peer uses, or an SA that an eroute names, does not exist here", []string{"ipsec spi and ipsec eroute on both ends"}, nil)
	case p.Inbound:
		id := named(p)
		if p.SPI == 0 || id.Proto != klips.ProtoESP && id.Proto != klips.ProtoAH {
			c.because("a layer of the packet belongs to no SA here", []string{"ipsec spigrp on both ends"}, nil)
			return
		}
		if c.withID(id) != nil {
			c.because(fmt.Sprintf("%v sends with %v, and this host had no such SA then; it has one now", p.Src, id), []string{"ipsec spi"}, nil)
			return
		}
		c.because(fmt.Sprintf("%v sends with %v, and this host has no such SA", p.Src, id), []string{"ipsec spi"}, []string{hints.SA(c.t, id)})
	default:
		for i := range c.t.Eroutes {
			e := &c.t.Eroutes[i]
			if hints.Matches(e.Selector, flow(p)) && c.withID(e.ID) == nil && !e.ID.IsMagic() {
				c.because(fmt.Sprintf("the eroute %v is to %v, and there is no such SA", e.Selector, e.ID), c.trace(), []string{hints.SA(c.t, e.ID)})
				return
			}
		}
		c.because("an eroute is to an SA that does not exist", c.trace(), nil)
	}
}

func (c *causes) replay(reason drop.Reason, sa *klips.SA) {
	text := "the packet was received before: somebody repeats packets, or the peer has begun again with its numbers, as after a restart without its state directory"
	switch {
	case reason == drop.BelowMark:
		text = "an earlier SA with this key has received such numbers: the peer has begun again with its numbers, as after a restart without its state directory, or somebody repeats old packets"
	case reason == drop.TooOld:
		text = "the packet is older than the window: it was overtaken by many others, or the peer has begun again with its numbers"
	}
	if sa != nil && c.last != nil && c.last.Sequence != 0 {
		text += fmt.Sprintf("; its number is %d, the highest received is %d, the window has %d", c.last.Sequence, sa.Seq, sa.Window)
	}
	c.because(c.of(sa)+text, []string{"ipsec spi"}, []string{"new keys on both ends (ipsec rekey NAME); a larger --replay_window if packets are only late"})
}

// madeAgain reports whether an SA has been made since the newest packet was dropped because of
// it: it counts no such packet.
func (c *causes) madeAgain(sa *klips.SA) bool {
	return sa != nil && c.last != nil && c.last.SA == sa.ID && len(c.sas) == 0
}

func (c *causes) badICV(sa *klips.SA) {
	text := "the integrity check failed: most likely the key or the algorithm of the two ends differs"
	mend := []string{"give the SA one key and one algorithm on both ends"}
	if sa != nil && sa.ID.Proto == klips.ProtoAH { // RFC 4302 section 3.3.3
		text += ", or a NAT on the way changes the addresses, which AH protects"
		mend = append(mend, "through a NAT use esp with --natt nonesp instead of ah")
	}
	if c.madeAgain(sa) {
		c.because(fmt.Sprintf("%v: the integrity check failed then; the SA has been made again, and has dropped no such packet", sa.ID), []string{"ipsec spi"}, nil)
		return
	}
	c.because(c.of(sa)+text, []string{"ipsec fingerprint on both ends, or ipsec spi"}, mend)
}

func (c *causes) wrongSource(sa *klips.SA) {
	if sa == nil || c.last == nil || !c.last.Src.IsValid() || !sa.HasSource() {
		c.because(c.of(sa)+"its packets come from another address than the SA has as its source", []string{"ipsec spi"}, []string{"make the SA with --src of the address that the peer sends from"})
		return
	}
	if sa.Src == c.last.Src {
		c.because(fmt.Sprintf("%v: the packet comes from %v, and the source of the SA was another address then; it is this one now", sa.ID, sa.Src), []string{"ipsec spi"}, nil)
		return
	}
	c.because(fmt.Sprintf("%v: the packet comes from %v, and the source of the SA is %v: the peer has another address, or a NAT is on the way", sa.ID, c.last.Src, sa.Src),
		[]string{"ipsec spi"}, []string{fmt.Sprintf("make the SA with --src %v; through a NAT with --natt nonesp on both ends", c.last.Src)})
}

func (c *causes) wrongUDP(sa *klips.SA) {
	text := "one end encapsulates ESP in UDP, the other one does not"
	if sa != nil {
		text = "the peer sends ESP without UDP, and the SA has encapsulation"
		if sa.NATT.Type == klips.NATTNone {
			text = "the peer sends ESP in UDP, and the SA has no encapsulation"
		}
	}
	c.because(c.of(sa)+text, []string{"ipsec spi"}, []string{"give the SA --natt nonesp on both ends, or on none"})
}

func (c *causes) wrongOrder(sa *klips.SA) {
	text := "the layers of the packet are not those of a group here"
	if sa != nil {
		text = fmt.Sprintf("%v: the layers of the packet are not those of its group here, which are %s", sa.ID, c.group(sa))
	}
	c.because(text, []string{"ipsec spigrp on both ends"}, []string{"group the same SAs in the same order on both ends, the inner one first: ipsec spigrp"})
}

// group returns the SAs of the group of an SA, the outermost first.
func (c *causes) group(sa *klips.SA) string {
	for i := range c.t.SAs {
		if head := &c.t.SAs[i]; slices.Contains(head.Next, sa.ID) {
			sa = head
			break
		}
	}
	ids := append([]klips.SAID{sa.ID}, sa.Next...)
	if sa.Dir == klips.Outbound {
		slices.Reverse(ids)
	}
	return strings.ReplaceAll(klips.JoinSAIDs(ids), " ", ", ")
}

func (c *causes) policy(sa *klips.SA) {
	if sa != nil && sa.Policy == nil && c.last != nil && c.last.SA == sa.ID {
		c.because(fmt.Sprintf("%v: its inbound policy did not admit the packet then; it has none now", sa.ID), []string{"ipsec spi --json"}, nil)
		return
	}
	if sa == nil || sa.Policy == nil || c.last == nil || !c.last.Src.IsValid() {
		c.because(c.of(sa)+"its inbound policy does not admit what came out of the tunnel", []string{"ipsec eroute, ipsec spi"}, nil)
		return
	}
	if hints.Matches(*sa.Policy, flow(c.last)) {
		c.because(fmt.Sprintf("%v: its inbound policy did not admit the packet then; it does now", sa.ID), []string{"ipsec spi --json"}, nil)
		return
	}
	c.because(hints.Policy(sa.ID, *sa.Policy, flow(c.last)), nil,
		[]string{fmt.Sprintf("ipsec eroute --replacein --src %v/%d --dst %v/%d --said %v, or the network of the peer", c.last.Src, c.last.Src.BitLen(), c.last.Dst, c.last.Dst.BitLen(), sa.ID)})
}

// limit returns which lifetime limit has passed.
func (c *causes) limit(sa *klips.SA) string {
	if sa == nil {
		return ""
	}
	for _, l := range []struct {
		what string
		klips.Counter
	}{{"seconds since it was made", sa.Life.AddTime}, {"seconds of use", sa.Life.UseTime}, {"bytes", sa.Life.Bytes}, {"packets", sa.Life.Packets}} {
		if l.Hard != 0 && l.Count > l.Hard {
			return fmt.Sprintf(": %d %s, the limit is %d", l.Count, l.what, l.Hard)
		}
	}
	return ""
}

func (c *causes) noEroute() {
	if c.last == nil || !c.last.Src.IsValid() {
		c.because("packets are routed into the device, and no eroute takes them", []string{"ipsec eroute"}, nil)
		return
	}
	for i := range c.t.Eroutes {
		if e := &c.t.Eroutes[i]; hints.Matches(e.Selector, flow(c.last)) {
			c.because(fmt.Sprintf("%v -> %v was routed into %s when no eroute took it; now %v does", c.last.Src, c.last.Dst, c.last.Device, e.Selector), c.trace(), nil)
			return
		}
	}
	c.because(fmt.Sprintf("%v -> %v is routed into %s, and no eroute takes it", c.last.Src, c.last.Dst, c.last.Device), c.trace(), []string{hints.Eroute(c.t, flow(c.last))})
}

func (c *causes) shunt(reason drop.Reason) {
	word := klips.Magic(klips.SPIDrop)
	if reason == drop.ErouteReject {
		word = klips.Magic(klips.SPIReject)
	}
	if c.last != nil {
		for i := range c.t.Eroutes {
			if e := &c.t.Eroutes[i]; e.ID == word && hints.Matches(e.Selector, flow(c.last)) {
				c.because(fmt.Sprintf("the eroute %v is to %v", e.Selector, e.ID), c.trace(), []string{fmt.Sprintf("ipsec eroute --replace --src %v --dst %v --said SAID, if it was not meant", e.Src, e.Dst)})
				return
			}
		}
	}
	c.because("an eroute is to "+word.String(), []string{"ipsec eroute"}, nil)
}
