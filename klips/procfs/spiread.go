package procfs

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// ParseSPI parses ipsec_spi. The state of an SA is not in the table and becomes
// klips.Mature; groups are in ipsec_spigrp, see [JoinGroups].
func ParseSPI(r io.Reader) ([]klips.SA, error) {
	return records(r, "ipsec_spi", parseSA)
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
		case "both":
			sa.Dir = klips.Both
		default:
			return fmt.Errorf("%s is none of in, out and both", quote(value))
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
			sa.Seq = uint64(uint32(sa.Seq)) // the kernel's numbers have 32 bits
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
	if name == "flags" {
		sa.ESN = sa.Flags&klips.FlagESN != 0
		sa.Flags &^= klips.FlagESN
	}
	return err
}

// integer parses a signed number of 32 bits.
func integer(b []byte) (int, error) {
	n, err := strconv.ParseInt(string(b), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number of 32 bits", quote(b))
	}
	return int(n), nil
}

func parsePolicy(b []byte) (*klips.InboundPolicy, error) {
	b, proto, hasProto := bytes.Cut(b, []byte(policyProto))
	src, dst, ok := bytes.Cut(b, []byte("->"))
	if !ok || len(src) == 0 || len(dst) == 0 {
		return nil, errShort
	}
	var p klips.InboundPolicy
	var err error
	if p.Src, p.SrcPort, _, err = parseFlowEnd(src); err != nil {
		return nil, err
	}
	if p.Dst, p.DstPort, _, err = parseFlowEnd(dst); err != nil {
		return nil, err
	}
	if hasProto {
		n, err := strconv.ParseUint(string(proto), 10, 8)
		if err != nil {
			return nil, fmt.Errorf("%s is not a protocol", quote(proto))
		}
		p.Proto = uint8(n)
	}
	return &p, nil
}

// parseLife parses name(count,soft,hard)…, without separators.
func parseLife(l *klips.Life, b []byte) error {
	for len(b) > 0 {
		name, rest, ok := bytes.Cut(b, []byte("("))
		item, rest, ok2 := bytes.Cut(rest, []byte(")"))
		v := bytes.Split(item, []byte(","))
		if !ok || !ok2 || len(v) != 3 {
			return errShort
		}
		var c klips.Counter
		var count uint64
		for i, p := range [...]*uint64{&count, &c.Soft, &c.Hard} {
			var err error
			if *p, err = number(v[i]); err != nil {
				return err
			}
		}
		c.SetRaw(count)
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

// parseOutIf parses name:transport.
func parseOutIf(b []byte) (uint16, error) {
	name, transport, _ := bytes.Cut(b, []byte(":"))
	n, err := pfkey.OutIfNumber(string(name), string(transport) == "1")
	if err != nil {
		return 0, fmt.Errorf("%s is not a device", quote(b))
	}
	return n, nil
}
