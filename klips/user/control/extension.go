package control

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// The types of extensions.
const (
	ExtSAIDs    pfkey.ExtType = 64
	ExtVirtual  pfkey.ExtType = 65
	ExtPhysical pfkey.ExtType = 66
	ExtTable    pfkey.ExtType = 67
	ExtData     pfkey.ExtType = 68
	ExtWindow   pfkey.ExtType = 69
	ExtPackets  pfkey.ExtType = 70
	ExtESN      pfkey.ExtType = 72
	ExtReuse    pfkey.ExtType = 73
	ExtSeq      pfkey.ExtType = 74
	ExtReplay   pfkey.ExtType = 75
	ExtAlign8   pfkey.ExtType = 76
	ExtCopyTOS  pfkey.ExtType = 77
	ExtPlace    pfkey.ExtType = 78
	ExtDirect   pfkey.ExtType = 79
	ExtBundles  pfkey.ExtType = 80
	ExtMarked   pfkey.ExtType = 81
)

// extensions holds the values of a message's private extensions. Absent ones are zero;
// has distinguishes them from zeros that were sent.
type extensions struct {
	has               set
	saids             []klips.SAID
	virtual, physical string
	table             Table
	data, place       []byte // they point into the message
	window            uint32
	soft, hard        uint64 // PACKETS
	seq, replay       uint64
}

// A set is a set of private extensions, see bit.
type set uint64

// bit returns the set of one extension; 0 for types that are not private.
func bit(t pfkey.ExtType) set { return 1 << (t - pfkey.FirstPrivate) }

// decode reads the private extensions of a message and checks their values. An error is
// EINVAL with the name of the extension.
func decode(m *pfkey.Message) (x extensions, err error) {
	for _, e := range m.Private {
		b := body{left: e.Body}
		switch e.Type {
		case ExtSAIDs:
			x.saids = b.saids()
		case ExtVirtual:
			x.virtual = b.device()
		case ExtPhysical:
			x.physical = b.device()
		case ExtTable:
			if x.table = Table(b.u32()); x.table < TableSAs || x.table > TableGroup {
				b.refuse("there is no such table")
			}
		case ExtData:
			x.data = b.bytes(int64(b.u32()))
		case ExtPlace:
			x.place = b.bytes(int64(b.u32()))
		case ExtWindow:
			x.window = b.u32()
		case ExtPackets:
			b.u32()
			x.soft, x.hard = b.u64(), b.u64()
		case ExtESN, ExtReuse, ExtAlign8, ExtCopyTOS, ExtDirect, ExtBundles, ExtMarked:
			if b.u32() != 1 {
				b.refuse("a flag that is there is 1")
			}
		case ExtSeq:
			b.zeros(4)
			x.seq = b.u64()
		case ExtReplay:
			b.zeros(4)
			x.replay = b.u64()
		default:
			b.refuse("there is no such extension")
		}
		b.end()
		if b.fault != "" {
			return extensions{}, fault(m.Type, e.Type, b.fault)
		}
		x.has |= bit(e.Type)
	}
	return x, nil
}

// A body reads the values of one extension. The first missing or wrong value sets fault;
// after that all values are zero.
type body struct {
	left  []byte
	fault string
}

func (b *body) refuse(why string) {
	if b.fault == "" {
		b.fault = why
	}
}

// bytes returns the next n bytes, nil if there are fewer.
func (b *body) bytes(n int64) []byte {
	if n > int64(len(b.left)) {
		b.refuse("it is too short for what it holds")
	}
	if b.fault != "" {
		return nil
	}
	v := b.left[:n]
	b.left = b.left[n:]
	return v
}

// fixed returns the next n bytes, zeros if there are fewer.
func (b *body) fixed(n int64) []byte {
	if v := b.bytes(n); v != nil {
		return v
	}
	return make([]byte, n)
}

func (b *body) u16() uint16 { return binary.NativeEndian.Uint16(b.fixed(2)) }
func (b *body) u32() uint32 { return binary.NativeEndian.Uint32(b.fixed(4)) }
func (b *body) u64() uint64 { return binary.NativeEndian.Uint64(b.fixed(8)) }

// zeros refuses a reserved field of n bytes that is not zero.
func (b *body) zeros(n int64) {
	for _, c := range b.bytes(n) {
		if c != 0 {
			b.refuse("a reserved field is not zero")
		}
	}
}

// end refuses remaining bytes, except for zeros that fill a word of 8 bytes.
func (b *body) end() {
	if len(b.left) > 7 {
		b.refuse("it is longer than what it holds")
	}
	b.zeros(int64(len(b.left)))
}

// maxDevice is the length of the longest name of a device, IFNAMSIZ - 1.
const maxDevice = 15

// device reads the name of a device: 1 to 15 bytes, without NUL, slash or blank.
func (b *body) device() string {
	name := string(b.bytes(int64(b.u16())))
	if name == "" || len(name) > maxDevice || strings.ContainsAny(name, "\x00/ \t\n\v\f\r") {
		b.refuse("no device has such a name")
	}
	return name
}

// saids reads SAIDs that a stack can hold.
func (b *body) saids() (ids []klips.SAID) {
	n := b.u32()
	if n > max(klips.MaxGroup, klips.MaxAlso) {
		b.refuse("it has more SAIDs than a group or an eroute holds")
	}
	for i := uint32(0); i < n && b.fault == ""; i++ {
		head := b.fixed(4) // protocol, IP version, 0, 0
		id := klips.SAID{Proto: klips.Proto(head[0]), SPI: klips.SPI(binary.BigEndian.Uint32(b.fixed(4)))}
		addr := [16]byte(b.fixed(16))
		switch {
		case head[1] == 4 && [12]byte(addr[4:]) == [12]byte{}:
			id.Dst = netip.AddrFrom4([4]byte(addr[:4]))
		case head[1] == 6:
			id.Dst = netip.AddrFrom16(addr)
		}
		if head[2]|head[3] != 0 || !id.Dst.IsValid() || id.Dst.Is4In6() || pfkey.SATypeOf(id.Proto) == pfkey.SATypeUnspec {
			b.refuse("no SA has such a SAID")
		}
		ids = append(ids, id)
	}
	return ids
}

// extension makes an extension with a body, padded with zeros to whole words of 8 bytes
// including the 4 bytes of length and type.
func extension(t pfkey.ExtType, body []byte) pfkey.Extension {
	return pfkey.Extension{Type: t, Body: append(body, make([]byte, -(4+len(body))&7)...)}
}

// numberExt makes an extension that is one number.
func numberExt(t pfkey.ExtType, n uint32) pfkey.Extension {
	return extension(t, binary.NativeEndian.AppendUint32(nil, n))
}

// longExt makes an extension with four zero bytes and numbers of 64 bits.
func longExt(t pfkey.ExtType, numbers ...uint64) pfkey.Extension {
	b := make([]byte, 4)
	for _, n := range numbers {
		b = binary.NativeEndian.AppendUint64(b, n)
	}
	return extension(t, b)
}

// deviceExt makes an extension with the name of a device. A name that is too long for
// the 16-bit length is cut; the daemon refuses it, like all names above 15 bytes.
func deviceExt(t pfkey.ExtType, name string) pfkey.Extension {
	name = name[:min(len(name), 255)]
	return extension(t, append(binary.NativeEndian.AppendUint16(nil, uint16(len(name))), name...))
}

// dataExt makes the extension DATA with a copy of the data.
func dataExt(data []byte) pfkey.Extension { return bytesExt(ExtData, data) }

// placeExt makes the extension PLACE with a copy of the place.
func placeExt(place []byte) pfkey.Extension { return bytesExt(ExtPlace, place) }

func bytesExt(t pfkey.ExtType, data []byte) pfkey.Extension {
	b := make([]byte, 0, lengthLen+len(data)+7)
	return extension(t, append(binary.NativeEndian.AppendUint32(b, uint32(len(data))), data...))
}

// saidsExt makes the extension SAIDS.
func saidsExt(ids ...klips.SAID) pfkey.Extension {
	b := binary.NativeEndian.AppendUint32(nil, uint32(len(ids)))
	for _, id := range ids {
		var addr [16]byte // without an address: version 0, which is refused
		version := byte(0)
		switch {
		case id.Dst.Is4():
			version = 4
			copy(addr[:], id.Dst.AsSlice())
		case id.Dst.Is6():
			version, addr = 6, id.Dst.As16()
		}
		b = append(b, byte(id.Proto), version, 0, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(id.SPI))
		b = append(b, addr[:]...)
	}
	return extension(ExtSAIDs, b)
}
