package render

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// kernelPriority is the lowest priority of a policy: the kernel takes the smallest number.
const kernelPriority = 1 << 31

// ipXfrm writes commands for ip -batch of iproute2. States find their policies by reqid, which
// is the SPI.
func ipXfrm(c *Config) Text {
	w := newWriter(c, "#", true)
	w.remark("ip -batch FILE makes these. A shell takes each line, too, with ip before it.")
	written := map[klips.SAID]bool{}
	w.each(c, func(g Group, l []layer) {
		for _, m := range l {
			if why := kernelLacks(&m); why != "" {
				w.left(g, "%s: %s", m.ID, why)
				return
			}
		}
		for i := range l {
			w.state(&l[i])
			written[l[i].ID] = true
		}
		if !g.outer().Dir.Receives() {
			return
		}
		flows := c.admitted(g)
		if flows == nil {
			w.lost(g, "it has no inbound policy, and no eroute fits; the kernel drops what comes out of it until there is a policy")
		}
		for _, f := range flows {
			for _, s := range ofEach(f) {
				w.policy(s, "in", l, false)
				if l[0].tun != nil { // a gateway forwards packets that come out of a tunnel
					w.policy(s, "fwd", l, false)
				}
			}
		}
	})
	w.flowsTo(c, "ip xfrm", func(e klips.Eroute) {
		w.shunt(e, "the kernel drops such packets without an ICMP error", func(s klips.Selector, pass bool) {
			action := "block"
			if pass {
				action = "allow"
			}
			w.line("xfrm policy add", selectorWords(s), "dir out priority", priorityOf(s), "action", action)
		})
	}, func(e klips.Eroute, l []layer) {
		for _, m := range l {
			if !written[m.ID] {
				w.left(e.Selector, "%s is left out", m.ID)
				return
			}
		}
		for _, s := range ofEach(e.Selector) {
			w.policy(s, "out", l, true)
		}
	})
	return w.text
}

// kernelLacks returns why the kernel cannot have an SA; empty: it can.
func kernelLacks(m *layer) string {
	enc, _ := m.Enc.Info()
	auth, _ := m.Auth.Info()
	comp, _ := m.Comp.Info()
	switch {
	case m.Enc != alg.EncNone && enc.Kernel == "", m.Auth != alg.AuthNone && auth.Kernel == "", m.Comp != alg.CompNone && comp.Kernel == "":
		return "the kernel has no name for " + lacking(m.SA)
	case m.tun != nil && m.Dir.Sends() && !specified(m.src):
		return "an outer header needs a source, and neither it nor its tun SA has one"
	}
	return ""
}

// state writes the command that makes a state.
func (w *writer) state(m *layer) {
	sa := m.SA
	words := []any{"xfrm state add src", anyOf(m.src, m.dst), "dst", m.dst, "proto", sa.ID.Proto, "spi", spiText(sa.ID.SPI),
		"reqid", uint32(sa.ID.SPI), "mode", m.mode()}
	if sa.Window > 0 && sa.ID.Proto != klips.ProtoComp {
		words = append(words, "replay-window", sa.Window)
	}
	words = append(words, numberWords("replay-oseq", sa.Seq)...)
	words = append(words, numberWords("replay-seq", sa.ReplaySeq)...)
	words = append(words, flagWords(m)...)
	enc, _ := sa.Enc.Info()
	auth, _ := sa.Auth.Info()
	comp, _ := sa.Comp.Info()
	if sa.ID.Proto == klips.ProtoComp {
		words = append(words, "comp", comp.Kernel)
	}
	if sa.Auth != alg.AuthNone {
		words = append(words, "auth-trunc", quoted(auth.Kernel), sa.auth("0x"), 8*auth.ICV)
	}
	switch {
	case sa.Enc == alg.EncNone:
	case enc.AEAD:
		words = append(words, "aead", quoted(enc.Kernel), sa.enc("0x"), 8*enc.ICV)
	case sa.EncKeyBits == 0:
		words = append(words, "enc", quoted(enc.Kernel), quoted(""))
	default:
		words = append(words, "enc", quoted(enc.Kernel), sa.enc("0x"))
	}
	if n := sa.NATT; n.Type != klips.NATTNone {
		form := "espinudp"
		if n.Type == klips.NATTNonIKE {
			form = "espinudp-nonike"
		}
		words = append(words, "encap", form, n.SPort, n.DPort, anyOf(n.OA, m.dst))
		w.remark("%s is in UDP: a program must hold the port, as ipsec natt does.", sa.ID)
	}
	w.losses(sa, lossAllocations|lossDevice, "ip xfrm")
	w.line(append(words, limitWords(sa)...)...)
}

// flagWords returns the flags of a state. The outer headers of KLIPS have DF clear, and the
// packets in a tunnel may be of the other family than its ends.
func flagWords(m *layer) (words []any) {
	if m.tun != nil {
		words = append(words, "nopmtudisc", "af-unspec")
		if !m.tun.CopyTOS && !m.Dir.Receives() {
			// A state that receives must copy congestion marks (RFC 6040 section 4.2).
			words = append(words, "noecn")
		}
	}
	if m.ID.Proto == klips.ProtoAH && m.ID.Dst.Is4() && !m.Align8 {
		words = append(words, "align4") // RFC 4302 section 3.3.3.2.1; the kernel pads to 8
	}
	if m.ESN {
		words = append(words, "esn")
	}
	if words != nil {
		words = append([]any{"flag"}, words...)
	}
	if m.tun != nil && !m.tun.CopyTOS {
		words = append(words, "extra-flag dont-encap-dscp")
	}
	return words
}

// numberWords returns the option for a sequence number, in two halves.
func numberWords(option string, n *uint64) []any {
	if n == nil {
		return nil
	}
	words := []any{option, uint32(*n)}
	if high := uint32(*n >> 32); high != 0 {
		words = append(words, option+"-hi", high)
	}
	return words
}

func limitWords(sa *SA) (words []any) {
	for _, s := range [...]struct {
		severity string
		klips.Limits
	}{{"soft", sa.Soft}, {"hard", sa.Hard}} {
		for _, d := range [...]struct {
			name  string
			value uint64
		}{{"time", s.AddTime}, {"time-use", s.UseTime}, {"byte", s.Bytes}, {"packet", s.Packets}} {
			if d.value != 0 {
				words = append(words, "limit", d.name+"-"+s.severity, d.value)
			}
		}
	}
	return words
}

// policy writes the command that makes a policy. exact: only these SAs fit.
func (w *writer) policy(s klips.Selector, dir string, l []layer, exact bool) {
	words := []any{"xfrm policy add", selectorWords(s), "dir", dir, "priority", priorityOf(s)}
	for i := range l {
		m := &l[i]
		words = append(words, "tmpl src", anyOf(m.src, m.dst), "dst", m.dst, "proto", m.ID.Proto)
		if exact {
			words = append(words, "spi", spiText(m.ID.SPI))
		}
		words = append(words, "reqid", uint32(m.ID.SPI), "mode", m.mode())
		if !exact && m.ID.Proto == klips.ProtoComp {
			words = append(words, "level use") // small packets come uncompressed (RFC 3173 section 2.2)
		}
	}
	w.line(words...)
}

func priorityOf(s klips.Selector) uint32 { return kernelPriority - 1 - s.Rank() }

func selectorWords(s klips.Selector) string {
	t := "src " + s.Src.String() + " dst " + s.Dst.String()
	if s.Proto != 0 {
		t += " proto " + strconv.Itoa(int(s.Proto))
	}
	if s.SrcPort != 0 {
		t += " sport " + strconv.Itoa(int(s.SrcPort))
	}
	if s.DstPort != 0 {
		t += " dport " + strconv.Itoa(int(s.DstPort))
	}
	return t
}

// anyOf returns an address, or the unspecified one of the family of another.
func anyOf(a, family netip.Addr) netip.Addr {
	switch {
	case specified(a):
		return a
	case family.Is6():
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func spiText(spi klips.SPI) string { return fmt.Sprintf("0x%08x", uint32(spi)) }

func quoted(s string) string { return `"` + s + `"` }
