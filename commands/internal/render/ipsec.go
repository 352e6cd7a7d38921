package render

import (
	"strconv"

	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// ipsecCommands writes the commands of this program, for ipsec batch.
func ipsecCommands(c *Config) Text {
	w := newWriter(c, "#", true)
	w.remark("ipsec batch FILE makes these, all or none.")
	for _, d := range c.Devices {
		words := []any{"tncfg --attach --virtual", quote.Shell(d.Name), "--physical", quote.Shell(d.Physical)}
		if d.Direct {
			words = append(words, "--direct")
		}
		w.line(words...)
	}
	for _, g := range c.Groups {
		for _, sa := range g {
			w.spi(sa)
		}
		if len(g) > 1 {
			w.line("spigrp --said", g)
		}
		switch policies := c.policies(g); len(policies) {
		case 0:
		case 1:
			w.eroute("--addin", policies[0].Eroute())
		default:
			w.lost(g, "packets of %d flows come out of it, and a group has one inbound policy at most; without one it takes all", len(policies))
		}
	}
	for _, e := range c.Eroutes {
		w.eroute("--add", e)
	}
	return w.text
}

// spi writes the command that makes an SA.
func (w *writer) spi(sa *SA) {
	words := []any{"spi --said", sa.ID}
	option := func(name string, value any) { words = append(words, "--"+name, value) }
	switch sa.ID.Proto {
	case klips.ProtoTun:
		words = append(words, "--ip4")
		if sa.ID.Dst.Is6() {
			words[len(words)-1] = "--ip6"
		}
	case klips.ProtoESP:
		name, ok := syntax.ESPName(sa.Transform, sa.EncKeyBits)
		if !ok {
			w.left(sa.ID, "there is no name for %s on command lines", lacking(sa))
			return
		}
		option("esp", name)
	case klips.ProtoAH:
		name, ok := syntax.AHName(sa.Auth)
		if !ok {
			w.left(sa.ID, "there is no name for %s on command lines", lacking(sa))
			return
		}
		option("ah", name)
	case klips.ProtoComp:
		info, ok := sa.Comp.Info()
		if !ok || len(info.Names) == 0 {
			w.left(sa.ID, "there is no name for %s on command lines", lacking(sa))
			return
		}
		option("comp", info.Names[0])
	}
	if specified(sa.Src) {
		option("src", klips.FormatAddr(sa.Src))
	}
	if sa.ID.Proto == klips.ProtoTun && specified(sa.Src) {
		option("dst", klips.FormatAddr(sa.ID.Dst))
	}
	if sa.EncKeyBits > 0 {
		option("enckey", sa.enc("0x"))
	}
	if sa.AuthKeyBits > 0 {
		option("authkey", sa.auth("0x"))
	}
	if sa.Window > 0 && sa.ID.Proto != klips.ProtoTun && sa.ID.Proto != klips.ProtoComp {
		option("replay_window", sa.Window)
	}
	for _, o := range [...]struct {
		name string
		set  bool
	}{{"esn", sa.ESN}, {"align8", sa.Align8}, {"copy-tos", sa.CopyTOS}} {
		if o.set {
			words = append(words, "--"+o.name)
		}
	}
	if sa.Seq != nil {
		option("seq", *sa.Seq)
	}
	if sa.ReplaySeq != nil {
		option("replay-seq", *sa.ReplaySeq)
	}
	if life := lifeOption(sa); life != "" {
		option("life", life)
	}
	if n := sa.NATT; n.Type != klips.NATTNone {
		option("natt", n.Type)
		// KLIPS calls the ports by the ends of the packets that come back.
		option("sport", n.DPort)
		option("dport", n.SPort)
	}
	if sa.OutIf != 0 {
		option("outif", sa.OutIf)
	}
	if sa.Offload != "" {
		option("offload", sa.Offload)
	}
	w.losses(sa, lossOA, "ipsec spi")
	w.line(words...)
}

// lifeOption returns the value of --life.
func lifeOption(sa *SA) (list string) {
	for _, s := range [...]struct {
		severity string
		klips.Limits
	}{{"soft", sa.Soft}, {"hard", sa.Hard}} {
		for _, d := range [...]struct {
			name  string
			value uint64
		}{
			{"allocations", uint64(s.Allocations)}, {"bytes", s.Bytes}, {"addtime", s.AddTime}, {"usetime", s.UseTime}, {"packets", s.Packets},
		} {
			if d.value == 0 {
				continue
			}
			if list != "" {
				list += ","
			}
			list += s.severity + "-" + d.name + "=" + strconv.FormatUint(d.value, 10)
		}
	}
	return list
}

// eroute writes the command that makes an eroute or an inbound policy.
func (w *writer) eroute(by string, e klips.Eroute) {
	words := []any{"eroute", by, "--src", klips.FormatPrefix(e.Src), "--dst", klips.FormatPrefix(e.Dst)}
	switch {
	case e.OfBoth():
		words = append(words, "--transport-proto", "tcp,udp")
	case e.Proto != 0:
		words = append(words, "--transport-proto", int(e.Proto))
	}
	if e.SrcPort != 0 {
		words = append(words, "--src-port", e.SrcPort)
	}
	if e.DstPort != 0 {
		words = append(words, "--dst-port", e.DstPort)
	}
	words = append(words, "--said", e.ID)
	for _, id := range e.Also {
		words = append(words, "--also", id)
	}
	w.line(words...)
}
