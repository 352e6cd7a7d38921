package procfs

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// WriteSPI writes ipsec_spi: a line for each SA, in the order given.
func WriteSPI(w io.Writer, sas []klips.SA) error {
	var n transformName
	return writeLines(w, sas, func(b []byte, sa *klips.SA) []byte {
		return appendSA(b, sa, n.of(sa.Transform, sa.ID.Proto))
	})
}

// A transformName remembers the latest name: tables are full of equal ones.
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
	if sa.Dir == klips.Inbound {
		b = append(b, ": dir=in "...) // the blank belongs to the value
	} else {
		b = append(b, ": dir=out"...)
	}
	if sa.Src.IsValid() {
		b = append(b, " src="...)
		b = appendAddr(b, sa.Src)
	}
	if sa.Policy != nil {
		b = append(b, " policy="...)
		b = appendPrefix(b, sa.Policy.Src)
		b = append(b, "->"...)
		b = appendPrefix(b, sa.Policy.Dst)
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
	if f := sa.Flags &^ inboundFlag; f != 0 {
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
	return append(b, '\n')
}

// appendLife appends the lifetimes that have something to tell. The time of
// adding always has: KLIPS looks at the clock reading behind it.
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
		// For the time of use the count is a clock reading too, 0 until then.
		counts := d.c.Count > 1 && d.name != "usetime"
		if !d.always && !counts && d.c.Soft == 0 && d.c.Hard == 0 {
			continue
		}
		b = append(b, d.name...)
		b = append(b, '(')
		b = strconv.AppendUint(b, d.c.Count, 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, d.c.Soft, 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, d.c.Hard, 10)
		b = append(b, ')')
	}
	return b
}

// authXCBC is AES-XCBC, which only KLIPS kernels have.
const authXCBC klips.AuthAlg = 9

// hashBits returns what the field alen shows.
func hashBits(a klips.AuthAlg) int {
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

// ParseSPI reads ipsec_spi. The state of an SA is not in the table and becomes
// klips.Mature; groups are in ipsec_spigrp, see [JoinGroups].
func ParseSPI(r io.Reader) ([]klips.SA, error) {
	var sas []klips.SA
	err := readLines(r, "ipsec_spi", func(line []byte) error {
		sa, err := parseSA(line)
		if err == nil {
			sas = append(sas, sa)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return sas, nil
}

func parseSA(line []byte) (klips.SA, error) {
	sa := klips.SA{State: klips.Mature}
	first, rest := nextField(line)
	var err error
	if sa.ID, err = parseSAID(first); err != nil {
		return sa, err
	}
	name, rest := nextField(rest)
	name, ok := bytes.CutSuffix(name, []byte(":"))
	if !ok {
		return sa, errShort
	}
	if sa.Transform, err = parseTransform(name, sa.ID.Proto); err != nil {
		return sa, err
	}
	life := false // all generations have this field
	for {
		var f []byte
		if f, rest = nextField(rest); len(f) == 0 {
			break
		}
		name, value, ok := bytes.Cut(f, []byte("="))
		if !ok {
			return sa, fmt.Errorf("%s is not a field", quote(f))
		}
		if err := setField(&sa, string(name), value); err != nil {
			return sa, fmt.Errorf("field %s: %w", quote(name), err)
		}
		life = life || string(name) == "life(c,s,h)"
	}
	if !life {
		return sa, errShort
	}
	return sa, nil
}

// nextField splits off the first word of a line.
func nextField(line []byte) (field, rest []byte) {
	line = bytes.TrimLeft(line, " ")
	if i := bytes.IndexByte(line, ' '); i >= 0 {
		return line[:i], line[i:]
	}
	return line, nil
}

func setField(sa *klips.SA, name string, value []byte) (err error) {
	var u32 *uint32
	switch name {
	case "dir":
		switch string(value) {
		case "in":
			sa.Dir = klips.Inbound
		case "out":
			sa.Dir = klips.Outbound
		default:
			return fmt.Errorf("%s is neither in nor out", quote(value))
		}
	case "src":
		sa.Src, err = parseAddr(value)
	case "policy":
		sa.Policy, err = parsePolicy(value)
	case "iv":
		sa.IV, err = parseHex(value)
	case "ooowin":
		u32 = &sa.Window
	case "ooo_errs":
		u32 = &sa.ReplayErrs
	case "seq":
		sa.Seq, err = number(value)
		if bytes.HasPrefix(value, []byte("-")) {
			sa.Seq = uint64(uint32(sa.Seq)) // the kernel's are of 32 bits
		}
	case "bit":
		sa.Bitmap, err = number(value)
	case "max_seq_diff":
		u32 = &sa.MaxSeqDiff
	case "flags":
		u32, value = &sa.Flags, bytes.TrimSuffix(value, []byte("<>"))
	case "aklen":
		sa.AuthKeyBits, err = integer(value)
	case "auth_errs":
		u32 = &sa.AuthErrs
	case "eklen":
		sa.EncKeyBits, err = integer(value)
	case "encr_size_errs":
		u32 = &sa.SizeErrs
	case "encr_pad_errs":
		u32 = &sa.PadErrs
	case "life(c,s,h)":
		err = parseLife(&sa.Life, value)
	case "idle":
		var n uint64
		n, err = number(value)
		sa.Used, sa.Idle = true, time.Duration(uint32(n))*time.Second
	case "ratio":
		a, b, _ := bytes.Cut(value, []byte(":"))
		if sa.Uncompressed, err = number(a); err == nil {
			sa.Compressed, err = number(b)
		}
	case "natencap":
		switch string(value) {
		case "nonike":
			sa.NATT.Type = klips.NATTNonIKE
		case "nonesp":
			sa.NATT.Type = klips.NATTNonESP
		}
	case "natsport":
		sa.NATT.SPort, err = number16(value)
	case "natdport":
		sa.NATT.DPort, err = number16(value)
	case "refcount":
		sa.RefCount, err = integer(value)
	case "ref":
		u32 = &sa.Ref
	case "refhim":
		u32 = &sa.RefHim
	case "outif":
		sa.OutIf, err = parseOutIf(value)
	}
	if u32 != nil {
		var n uint64
		n, err = number(value)
		if int64(n) > 1<<32-1 || int64(n) < -1<<31 {
			return fmt.Errorf("%s is not a number of 32 bits", quote(value))
		}
		*u32 = uint32(n)
	}
	return err
}

// integer reads a number of 32 bits with its sign.
func integer(b []byte) (int, error) {
	n, err := strconv.ParseInt(string(b), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number of 32 bits", quote(b))
	}
	return int(n), nil
}

func parsePolicy(b []byte) (*klips.InboundPolicy, error) {
	src, dst, ok := bytes.Cut(b, []byte("->"))
	if !ok {
		return nil, errShort
	}
	var p klips.InboundPolicy
	var err error
	if p.Src, err = parsePrefix(src); err != nil {
		return nil, err
	}
	p.Dst, err = parsePrefix(dst)
	return &p, err
}

// parseLife reads name(count,soft,hard)…, without anything between.
func parseLife(l *klips.Life, b []byte) error {
	for len(b) > 0 {
		name, rest, ok := bytes.Cut(b, []byte("("))
		item, rest, ok2 := bytes.Cut(rest, []byte(")"))
		v := bytes.Split(item, []byte(","))
		if !ok || !ok2 || len(v) != 3 {
			return errShort
		}
		var c klips.Counter
		for i, p := range [...]*uint64{&c.Count, &c.Soft, &c.Hard} {
			var err error
			if *p, err = number(v[i]); err != nil {
				return err
			}
		}
		switch string(name) {
		case "alloc":
			l.Allocations = c
		case "bytes":
			l.Bytes = c
		case "addtime":
			l.AddTime = c
		case "usetime":
			l.UseTime = c
		case "packets":
			l.Packets = c
		}
		b = rest
	}
	return nil
}

// parseOutIf reads name:transport.
func parseOutIf(b []byte) (uint16, error) {
	name, transport, _ := bytes.Cut(b, []byte(":"))
	n, err := pfkey.OutIfNumber(string(name), string(transport) == "1")
	if err != nil {
		return 0, fmt.Errorf("%s is not a device", quote(b))
	}
	return n, nil
}

// The algorithms whose names are not _ID and a number; no name is the beginning
// of a later one.
var (
	encNames = [...]klips.EncAlg{
		klips.Enc3DES, klips.EncNull, klips.EncAESGCM, klips.EncAES, klips.EncChaCha20Poly1305, 252, 253,
	}
	authNames = [...]klips.AuthAlg{
		klips.AuthMD5, klips.AuthSHA1, klips.AuthSHA256Trunc, klips.AuthSHA256, klips.AuthSHA384, klips.AuthSHA512,
	}
)

// parseTransform is the reverse of [klips.Transform.Name] for an SA of protocol
// p. It takes _ID and a number for any algorithm: generations know different
// names.
func parseTransform(name []byte, p klips.Proto) (klips.Transform, error) {
	var t klips.Transform
	head := (klips.Transform{}).Name(p)
	if p == klips.ProtoComp {
		head = "COMP"
	}
	rest, ok := bytes.CutPrefix(name, []byte(head))
	switch {
	case p == klips.ProtoComp:
		for _, c := range [...]struct {
			suffix string
			alg    klips.CompAlg
		}{{"_NONE", klips.CompNone}, {"_DEFLATE", klips.CompDeflate}, {"_LZS", klips.CompLZS}, {"_UNKNOWN_comp", 0xff}} {
			if r, ok := bytes.CutPrefix(rest, []byte(c.suffix)); ok {
				t.Comp, rest = c.alg, r
				break
			}
		}
	case p == klips.ProtoAH && isAuthID(rest):
	default:
		t.Enc, rest = parseEnc(rest)
	}
	t.Auth, rest = parseAuth(rest)
	if !ok || len(rest) != 0 {
		return t, fmt.Errorf("%s is not a transform of %v", quote(name), p)
	}
	return t, nil
}

// isAuthID reports whether a suffix is one unknown algorithm: that of AH, which
// has no cipher.
func isAuthID(b []byte) bool {
	return bytes.HasPrefix(b, []byte("_ID")) && bytes.Count(b, []byte("_")) == 1
}

func parseEnc(b []byte) (klips.EncAlg, []byte) {
	for _, e := range encNames {
		name := klips.Transform{Enc: e}.Name(klips.ProtoESP)[len("ESP"):]
		if rest, ok := bytes.CutPrefix(b, []byte(name)); ok {
			return e, rest
		}
	}
	id, rest := parseID(b)
	return klips.EncAlg(id), rest
}

func parseAuth(b []byte) (klips.AuthAlg, []byte) {
	for _, a := range authNames {
		i, _ := a.Info()
		if rest, ok := bytes.CutPrefix(b, []byte(i.Name)); ok {
			return a, rest
		}
	}
	id, rest := parseID(b)
	return klips.AuthAlg(id), rest
}

// parseID reads _ID and a number.
func parseID(b []byte) (uint8, []byte) {
	digits, ok := bytes.CutPrefix(b, []byte("_ID"))
	if !ok {
		return 0, b
	}
	n := 0
	for n < len(digits) && '0' <= digits[n] && digits[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(string(digits[:n]), 10, 8)
	if err != nil {
		return 0, b
	}
	return uint8(v), digits[n:]
}
