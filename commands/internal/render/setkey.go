package render

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

const (
	// maxSetkeyWindow is the longest replay window, in packets: PF_KEY has its length in
	// bytes, in one byte (RFC 2367 section 2.3.1).
	maxSetkeyWindow = 255 * 8
	// maxSetkeyID is the largest identifier that binds a policy to an SA.
	maxSetkeyID = 32767
)

// setkey writes a file for setkey -f. The identifiers of -u bind each policy to its SA.
func setkey(c *Config) Text {
	w := newWriter(c, "#", true)
	w.remark("setkey -f FILE makes these. NetBSD and FreeBSD read the window after -r in bytes, as it is\n" +
		"here, and Linux in packets.")
	ids := map[klips.SAID]int{}
	w.each(c, func(g Group, l []layer) {
		for i := range l {
			if why := setkeyLacks(&l[i]); why != "" {
				w.left(g, "%s: %s", l[i].ID, why)
				return
			}
		}
		for i := range l {
			ids[l[i].ID] = len(ids) + 1
			w.add(&l[i], ids[l[i].ID])
		}
		flows := c.admitted(g)
		if flows == nil && g.outer().Dir.Receives() {
			w.lost(g, "it has no inbound policy, and no eroute fits, so that no policy requires it")
		}
		for _, f := range flows {
			for _, s := range ofEach(f) {
				w.spdadd(s, "in", l, ids)
			}
		}
	})
	if len(ids) > maxSetkeyID {
		w.remark("There are more than %d SAs: setkey refuses the identifiers of the others.", maxSetkeyID)
	}
	w.flowsTo(c, "setkey", func(e klips.Eroute) {
		w.shunt(e, "setkey can have such packets dropped without an ICMP error", func(s klips.Selector, pass bool) {
			word := "discard"
			if pass {
				word = "none"
			}
			w.line(append(spdadd(s, "out"), word, ";")...)
		})
	}, func(e klips.Eroute, l []layer) {
		for _, m := range l {
			if ids[m.ID] == 0 {
				w.left(e.Selector, "%s is left out", m.ID)
				return
			}
		}
		for _, s := range ofEach(e.Selector) {
			w.spdadd(s, "out", l, ids)
		}
	})
	return w.text
}

// setkeyLacks returns why setkey cannot make an SA; empty: it can.
func setkeyLacks(m *layer) string {
	enc, _ := m.Enc.Info()
	auth, _ := m.Auth.Info()
	comp, _ := m.Comp.Info()
	switch {
	case m.ESN:
		return "setkey has no extended sequence numbers"
	case m.Enc != alg.EncNone && enc.Setkey == "", m.Auth != alg.AuthNone && auth.Setkey == "", m.Comp != alg.CompNone && comp.Setkey == "":
		return "setkey has no name for " + lacking(m.SA)
	case !specified(m.src):
		return "setkey needs the source of each SA, and it has none"
	case m.Window > maxSetkeyWindow:
		return fmt.Sprintf("the replay window of setkey has at most %d packets, this one has %d", maxSetkeyWindow, m.Window)
	case m.NATT.Type == klips.NATTNonIKE:
		return "setkey has the encapsulation of RFC 3948 alone"
	}
	return ""
}

// add writes the command that makes an SA.
func (w *writer) add(m *layer, id int) {
	sa := m.SA
	switch sa.Auth {
	case alg.SHA256:
		w.lost(sa.ID, "on Linux hmac-sha2-256 of setkey has an ICV of 96 bits, which is another algorithm; NetBSD and FreeBSD have 128 bits")
	case alg.SHA256Trunc:
		w.lost(sa.ID, "on NetBSD and FreeBSD hmac-sha2-256 of setkey has an ICV of 128 bits, which is another algorithm; Linux has 96 bits")
	}
	enc, _ := sa.Enc.Info()
	auth, _ := sa.Auth.Info()
	comp, _ := sa.Comp.Info()
	w.losses(sa, lossUse|lossPackets|lossAllocations|lossSequence|lossTOS|lossAlign|lossDevice, "setkey")
	if m.tun != nil {
		w.losses(m.tun, lossTOS|lossAllocations, "setkey")
	}
	src, dst, proto := m.src.String(), m.dst.String(), sa.ID.Proto.String()
	if sa.ID.Proto == klips.ProtoComp {
		proto = "ipcomp"
	}
	if sa.NATT.Type == klips.NATTNonESP {
		src, dst, proto = src+fmt.Sprintf("[%d]", sa.NATT.SPort), dst+fmt.Sprintf("[%d]", sa.NATT.DPort), "esp-udp"
		if sa.NATT.OA.IsValid() {
			proto += " " + sa.NATT.OA.String()
		}
	}
	words := []any{"add", src, dst, proto, spiText(sa.ID.SPI), "-m", m.mode(), "-u", id}
	if sa.Window > 0 && sa.ID.Proto != klips.ProtoComp {
		words = append(words, "-r", (sa.Window+7)/8)
	}
	for _, o := range [...]struct {
		name  string
		value uint64
	}{{"-ls", sa.Soft.AddTime}, {"-lh", sa.Hard.AddTime}, {"-bs", sa.Soft.Bytes}, {"-bh", sa.Hard.Bytes}} {
		if o.value != 0 {
			words = append(words, o.name, o.value)
		}
	}
	switch {
	case sa.ID.Proto == klips.ProtoComp:
		words = append(words, "-C", comp.Setkey, "-R")
	case sa.Enc == alg.Null:
		words = append(words, "-E", enc.Setkey)
	case sa.Enc != alg.EncNone:
		words = append(words, "-E", enc.Setkey, sa.enc("0x"))
	}
	if sa.Auth != alg.AuthNone {
		words = append(words, "-A", auth.Setkey, sa.auth("0x"))
	}
	w.line(append(words, ";")...)
}

// spdadd writes the command that makes a policy: its rules are from the innermost transform
// to the outermost.
func (w *writer) spdadd(s klips.Selector, dir string, l []layer, ids map[klips.SAID]int) {
	words := append(spdadd(s, dir), "ipsec")
	for i := range l {
		proto, ends, level := l[i].ID.Proto.String(), "", "unique:"+strconv.Itoa(ids[l[i].ID])
		if l[i].ID.Proto == klips.ProtoComp {
			proto = "ipcomp"
			if dir == "in" {
				level = "use" // small packets come uncompressed (RFC 3173 section 2.2)
			}
		}
		if l[i].tun != nil {
			ends = l[i].src.String() + "-" + l[i].dst.String()
		}
		words = append(words, proto+"/"+l[i].mode()+"/"+ends+"/"+level)
	}
	w.line(append(words, ";")...)
}

func spdadd(s klips.Selector, dir string) []any {
	end := func(p netip.Prefix, port uint16) string {
		if port == 0 {
			return p.String()
		}
		return p.String() + "[" + strconv.Itoa(int(port)) + "]"
	}
	proto := "any"
	if s.Proto != 0 {
		proto = strconv.Itoa(int(s.Proto))
	}
	return []any{"spdadd", end(s.Src, s.SrcPort), end(s.Dst, s.DstPort), proto, "-P", dir}
}
