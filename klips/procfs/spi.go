package procfs

import (
	"encoding/hex"
	"io"
	"strconv"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// WriteSPI writes ipsec_spi: a line for each SA, in the order given.
func WriteSPI(w io.Writer, sas []klips.SA) error {
	var n transformName
	return writeLines(w, sas, func(b []byte, sa *klips.SA) []byte {
		return appendSA(b, sa, n.of(sa.Transform, sa.ID.Proto))
	})
}

// A transformName caches the latest name, because tables have many equal ones.
type transformName struct {
	t    klips.Transform
	p    klips.Proto
	name string
}

func (n *transformName) of(t klips.Transform, p klips.Proto) string {
	if n.name == "" || n.t != t || n.p != p {
		*n = transformName{t, p, t.Name(p)}
	}
	return n.name
}

// inboundFlag is bit 0 of the flags, which KLIPS shows as dir= instead.
const inboundFlag = 1

func appendSA(b []byte, sa *klips.SA, transform string) []byte {
	b = appendSAID(b, sa.ID)
	b = append(b, ' ')
	b = append(b, transform...)
	b = append(b, ": dir="...)
	b = append(b, sa.Dir.String()...)
	if sa.Dir == klips.Inbound {
		b = append(b, ' ') // it belongs to the value
	}
	if sa.Src.IsValid() {
		b = append(b, " src="...)
		b = klips.AppendAddr(b, sa.Src)
	}
	if sa.Policy != nil {
		b = append(b, " policy="...)
		b = appendPolicy(b, sa.Policy)
	}
	if len(sa.IV) != 0 {
		b = appendField(b, "iv_bits", 8*uint64(len(sa.IV)))
		b = append(b, "bits iv=0x"...)
		b = hex.AppendEncode(b, sa.IV)
	}
	if sa.Transform != (klips.Transform{}) {
		b = appendOptional(b, "ooowin", uint64(sa.Window))
		b = appendOptional(b, "ooo_errs", uint64(sa.ReplayErrs))
		b = appendOptional(b, "seq", sa.Seq)
		if sa.Bitmap != 0 {
			b = append(b, " bit=0x"...)
			b = strconv.AppendUint(b, sa.Bitmap, 16)
		}
		b = appendOptional(b, "max_seq_diff", uint64(sa.MaxSeqDiff))
	}
	f := sa.Flags &^ inboundFlag
	if sa.ESN {
		// A bit of a field that KLIPS' table can have, so that parsers of that table
		// accept it.
		f |= klips.FlagESN
	}
	if f != 0 {
		b = append(b, " flags=0x"...)
		b = strconv.AppendUint(b, uint64(f), 16)
		b = append(b, "<>"...)
	}
	b = appendOptional(b, "alen", uint64(hashBits(sa.Transform.Auth)))
	b = appendOptional(b, "aklen", uint64(sa.AuthKeyBits))
	b = appendOptional(b, "auth_errs", uint64(sa.AuthErrs))
	b = appendOptional(b, "eklen", uint64(sa.EncKeyBits))
	b = appendOptional(b, "encr_size_errs", uint64(sa.SizeErrs))
	b = appendOptional(b, "encr_pad_errs", uint64(sa.PadErrs))
	b = append(b, " life(c,s,h)="...)
	b = appendLife(b, sa)
	if sa.Used {
		b = appendField(b, "idle", uint64(max(sa.Idle, 0)/time.Second))
	}
	if sa.Uncompressed != 0 || sa.Compressed != 0 {
		b = appendField(b, "ratio", sa.Uncompressed)
		b = append(b, ':')
		b = strconv.AppendUint(b, sa.Compressed, 10)
	}
	b = append(b, " natencap="...)
	b = append(b, nattName(sa.NATT.Type)...)
	b = appendField(b, "natsport", uint64(sa.NATT.SPort))
	b = appendField(b, "natdport", uint64(sa.NATT.DPort))
	b = append(b, " refcount="...)
	b = strconv.AppendInt(b, int64(sa.RefCount), 10)
	b = appendField(b, "ref", uint64(sa.Ref))
	b = appendField(b, "refhim", uint64(sa.RefHim))
	if sa.OutIf != 0 {
		name, transport := pfkey.OutIf(sa.OutIf)
		b = append(b, " outif="...)
		b = append(b, name...)
		if transport {
			b = append(b, ":1"...)
		} else {
			b = append(b, ":0"...)
		}
	}
	if sa.Offload != "" {
		b = append(b, " offload="...)
		b = append(b, sa.Offload...)
	}
	return append(b, '\n')
}

// appendPolicy appends an inbound policy. KLIPS has no ports or protocol in policies:
// ports are written as in ipsec_eroute, the protocol after a comma.
func appendPolicy(b []byte, p *klips.InboundPolicy) []byte {
	b = appendFlowEnd(b, p.Src, p.SrcPort)
	b = append(b, "->"...)
	b = appendFlowEnd(b, p.Dst, p.DstPort)
	if p.Proto != 0 {
		b = append(b, policyProto...)
		b = strconv.AppendUint(b, uint64(p.Proto), 10)
	}
	return b
}

const policyProto = ",proto="

// appendLife appends the lifetimes that are in use. The time of adding always is, since
// its count is the clock value of the creation.
func appendLife(b []byte, sa *klips.SA) []byte {
	l := &sa.Life
	for _, d := range [...]struct {
		name   string
		c      klips.Counter
		always bool
	}{
		{"alloc", l.Allocations, false},
		{"bytes", l.Bytes, false},
		{"addtime", l.AddTime, true},
		{"usetime", l.UseTime, sa.Used},
		{"packets", l.Packets, false},
	} {
		// The count of the time of use is a clock value too, 0 until the first use.
		counts := d.c.Raw() > 1 && d.name != "usetime"
		if !d.always && !counts && d.c.Soft == 0 && d.c.Hard == 0 {
			continue
		}
		b = append(b, d.name...)
		b = append(b, '(')
		b = strconv.AppendUint(b, d.c.Raw(), 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, d.c.Soft, 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, d.c.Hard, 10)
		b = append(b, ')')
	}
	return b
}

// authXCBC is AES-XCBC, which only KLIPS kernels have.
const authXCBC alg.Auth = 9

// hashBits returns the value of the field alen.
func hashBits(a alg.Auth) int {
	if a == authXCBC {
		return 128
	}
	i, _ := a.Info()
	return i.Hash
}

func nattName(t klips.NATTType) string {
	switch t {
	case klips.NATTNone:
		return "none"
	case klips.NATTNonIKE:
		return "nonike"
	case klips.NATTNonESP:
		return "nonesp"
	}
	return "unknown"
}
