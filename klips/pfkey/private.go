package pfkey

import (
	"bytes"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// The private part: what the embedded stack needs and KLIPS' messages cannot
// say. It is spoken only over the embedded daemon's socket, where both ends are
// one and the same program; a KLIPS kernel answers EINVAL to it.
//
//	request    extensions                        reply
//	GROUP      SAIDS (2 to 4)                    header
//	ATTACH     VIRTUAL PHYSICAL                  header
//	DETACH     VIRTUAL                           header
//	DETACHALL                                    header
//	LIST       TABLE, [SAIDS (1): only this SA]  TABLE DATA …, the last without DATA
//	LIST       TABLE (6: its group), SAIDS (1)   the same
//	STOP, LEAVE                                  header, when the daemon is about to go
//	HANDOVER                                     header, with descriptors (SCM_RIGHTS)
//	STATUS                                       DATA (one JSON value)
//	SET        DATA (JSON: names and values)     header
//	GUARD      DATA (JSON: klips.Guard)          header; EEXIST: guarded before
//	UNGUARD    DATA (JSON: klips.Selector)       header
//	BEGIN, END                                   header; between them, after an error,
//	                                             ECANCELED to all
//	HOLD, RELEASE                                header; between them the requests of
//	                                             others wait
//	ADD        as KLIPS', [WINDOW PACKETS FAR_END    as KLIPS'; with the errno
//	           ESN REUSE SEQ REPLAY_SEQ]             EKEYREJECTED: [SAIDS (1): who
//	                                                 sends with this key]
//	UPDATE     the same but SEQ and REPLAY_SEQ       the same
//
//	#   extension  body after length and type
//	64  SAIDS      per SAID 24 bytes: u8 protocol, u8 IP version (4 or 6), u16 0,
//	               u32 SPI and 16 bytes address (IPv4: 4 bytes and zeros),
//	               both big-endian; before them u32 count
//	65  VIRTUAL    u16 length, device name, as ipsec0
//	66  PHYSICAL   u16 length, device name, as eth0
//	67  TABLE      u32, a Table
//	68  DATA       u32 length, JSON: in LIST one value a line, each a type of
//	               package klips
//	69  WINDOW     u32, replay window in packets, when it is above 64
//	70  PACKETS    u32 0, u64 soft limit, u64 hard limit in packets, 0 = none
//	71  FAR_END    as ADDRESS_DST: where a tun SA's packets go when that is not
//	               its SAID's destination
//	72  ESN        u32, 1: sequence numbers of 64 bits
//	73  REUSE      u32, 1: another SA may send with this key
//	74  SEQ        u32 0, u64 sequence number that counts as the last one sent
//	75  REPLAY_SEQ u32 0, u64 sequence number that counts as the highest received
//
// A message of the private part is at most MaxMessage bytes long, so that it
// fits a datagram of a unix socket.

// Private message types.
const (
	TypeXGroup     Type = 64 // makes a group of two to four SAs, all or nothing
	TypeXAttach    Type = 65 // binds a virtual device to a physical one
	TypeXDetach    Type = 66 // unbinds it
	TypeXDetachAll Type = 67 // unbinds all
	TypeXList      Type = 68 // lists a table
	TypeXStop      Type = 69 // asks the daemon to remove its devices and to stop
	TypeXStatus    Type = 70 // asks the daemon how it is
	TypeXSet       Type = 71 // sets knobs of the stack, all or none
	TypeXLeave     Type = 72 // asks the daemon to stop, and to leave its devices to the next one

	TypeXGuard   Type = 73 // guards a flow
	TypeXUnguard Type = 74 // ends that

	// TypeXHandOver asks the daemon for all that it has, and to stop. Only root may.
	TypeXHandOver Type = 75

	// TypeXBegin begins a unit of the same client's requests: after one that is refused,
	// all others are refused with ECANCELED. TypeXEnd ends it; its answer comes when the
	// packet filter follows the changes.
	TypeXBegin Type = 76
	TypeXEnd   Type = 77

	// TypeXHold asks the daemon to carry out no changes but this client's, until
	// TypeXRelease or until it hangs up. EALREADY, as for all changes: others have held
	// for too long.
	TypeXHold    Type = 78
	TypeXRelease Type = 79

	minXType = TypeXGroup
	maxXType = TypeXRelease
)

// Private extension types.
const (
	ExtXSAIDs    ExtType = 64
	ExtXVirtual  ExtType = 65
	ExtXPhysical ExtType = 66
	ExtXTable    ExtType = 67
	ExtXData     ExtType = 68
	ExtXWindow   ExtType = 69
	ExtXPackets  ExtType = 70
	ExtXFarEnd   ExtType = 71
	ExtXESN      ExtType = 72
	ExtXReuse    ExtType = 73
	ExtXSeq      ExtType = 74
	ExtXReplay   ExtType = 75

	minXExt = ExtXSAIDs
	maxXExt = ExtXReplay
)

// MaxMessage is the length of the longest message that is sent, in bytes.
const MaxMessage = 1 << 16

// A PrivateMessage is the private extensions of a [Message].
type PrivateMessage struct {
	XSAIDs    *SAIDs
	XVirtual  *Name
	XPhysical *Name
	XTable    *Table
	XData     *Data
	XWindow   *Window
	XPackets  *Packets
	XFarEnd   *Address
	XESN      *Flag
	XReuse    *Flag
	XSeq      *Seq
	XReplay   *Seq
}

func (m *PrivateMessage) slot(t ExtType) slot {
	switch t {
	case ExtXSAIDs:
		return at(&m.XSAIDs)
	case ExtXVirtual:
		return at(&m.XVirtual)
	case ExtXPhysical:
		return at(&m.XPhysical)
	case ExtXTable:
		return at(&m.XTable)
	case ExtXData:
		return at(&m.XData)
	case ExtXWindow:
		return at(&m.XWindow)
	case ExtXPackets:
		return at(&m.XPackets)
	case ExtXFarEnd:
		return at(&m.XFarEnd)
	case ExtXESN:
		return at(&m.XESN)
	case ExtXReuse:
		return at(&m.XReuse)
	case ExtXSeq:
		return at(&m.XSeq)
	case ExtXReplay:
		return at(&m.XReplay)
	}
	return nil
}

// SAIDs is the extension SAIDS.
type SAIDs []klips.SAID

func (s *SAIDs) decode(r *reader) {
	n := r.u32()
	if r.err == nil && n > klips.MaxGroup {
		r.fail(syscall.EINVAL, "%d SAIDs", n)
	}
	for i := uint32(0); i < n && r.err == nil; i++ {
		id := klips.SAID{Proto: klips.Proto(r.u8())}
		v := r.u8()
		r.zero(2)
		id.SPI = klips.SPI(r.be32())
		b := [16]byte(r.bytes(16))
		switch {
		case v == 4 && [12]byte(b[4:]) == [12]byte{}:
			id.Dst = netip.AddrFrom4([4]byte(b[:4]))
		case v == 6:
			id.Dst = netip.AddrFrom16(b)
		default:
			r.fail(syscall.EINVAL, "no address")
		}
		*s = append(*s, id)
	}
	r.padding()
}

func (s *SAIDs) encode(w *writer) {
	w.u32(uint32(len(*s)))
	for _, id := range *s {
		w.u8(uint8(id.Proto))
		switch {
		case id.Dst.Is4():
			w.u8(4)
			w.zero(2)
			w.be32(uint32(id.SPI))
			b := id.Dst.As4()
			w.bytes(b[:])
			w.zero(12)
		case id.Dst.Is6():
			w.u8(6)
			w.zero(2)
			w.be32(uint32(id.SPI))
			b := id.Dst.As16()
			w.bytes(b[:])
		default:
			w.fail("no address")
		}
	}
}

func (s *SAIDs) check() *Error {
	for _, id := range *s {
		if err := checkSAID(id); err != nil {
			return err
		}
	}
	return nil
}

func (s *SAIDs) String() string { return fmt.Sprint([]klips.SAID(*s)) }

// padding fails unless what is left is less than a word, all zero.
func (r *reader) padding() {
	if len(r.b) > 7 {
		r.end()
	}
	r.zero(len(r.b))
}

// A Name is the extensions VIRTUAL and PHYSICAL, the name of a device: 1 to 15
// bytes, without NUL, slash or blank.
type Name string

func (n *Name) decode(r *reader) {
	size := int(r.u16())
	if size > maxName {
		r.fail(syscall.EINVAL, "device name of %d bytes", size)
	}
	*n = Name(r.bytes(min(size, maxName)))
	r.padding()
}

func (n *Name) encode(w *writer) {
	if len(*n) > maxName {
		w.fail("device name %.20q is too long", string(*n))
		return
	}
	w.u16(uint16(len(*n)))
	w.bytes([]byte(*n))
}

// maxName is IFNAMSIZ - 1.
const maxName = 15

func (n *Name) check() *Error {
	if *n == "" || len(*n) > maxName || bytes.ContainsAny([]byte(*n), "\x00/ \t\n\v\f\r") {
		return fault(syscall.EINVAL, "device name %.20q", string(*n))
	}
	return nil
}

func (n *Name) String() string { return fmt.Sprintf("%q", string(*n)) }

// A Table names what LIST lists.
type Table uint32

// The tables, and the type of their records.
const (
	TableSAs     Table = 1 // klips.SA
	TableEroutes Table = 2 // klips.Eroute
	TableDevices Table = 3 // klips.Device
	TableDebug   Table = 4 // klips.Debug, one
	TableVersion Table = 5 // string, one
	TableGroup   Table = 6 // klips.SA: the group of the SA that SAIDS names
)

func (t *Table) decode(r *reader) {
	*t = Table(r.u32())
	r.end()
}

func (t *Table) encode(w *writer) { w.u32(uint32(*t)) }

func (t *Table) check() *Error {
	if *t < TableSAs || *t > TableGroup {
		return fault(syscall.EINVAL, "table %d", *t)
	}
	return nil
}

func (t *Table) String() string { return fmt.Sprintf("%d", uint32(*t)) }

// Data is the extension DATA.
type Data []byte

func (d *Data) decode(r *reader) {
	n := r.u32()
	if r.err == nil && uint64(n) > uint64(len(r.b)) {
		r.fail(syscall.EINVAL, "%d bytes hold %d", len(r.b), n)
		return
	}
	if r.err != nil {
		return
	}
	*d = append(Data{}, r.bytes(int(n))...)
	r.padding()
}

func (d *Data) encode(w *writer) {
	w.u32(uint32(len(*d)))
	w.bytes(*d)
}

func (d *Data) check() *Error  { return nil }
func (d *Data) String() string { return fmt.Sprintf("%d bytes", len(*d)) }

// A Window is the extension WINDOW: a replay window in packets.
type Window uint32

func (v *Window) decode(r *reader) {
	*v = Window(r.u32())
	r.end()
}

func (v *Window) encode(w *writer) { w.u32(uint32(*v)) }
func (v *Window) check() *Error    { return nil }
func (v *Window) String() string   { return fmt.Sprintf("%d", uint32(*v)) }

// A Flag is the extensions ESN and REUSE, which are there for what is set. It is
// always 1.
type Flag uint32

func (v *Flag) decode(r *reader) {
	*v = Flag(r.u32())
	r.end()
}

func (v *Flag) encode(w *writer) { w.u32(uint32(*v)) }

func (v *Flag) check() *Error {
	if *v != 1 {
		return fault(syscall.EINVAL, "%d where 1 is set", uint32(*v))
	}
	return nil
}

func (v *Flag) String() string { return fmt.Sprintf("%d", uint32(*v)) }

// A Seq is the extensions SEQ and REPLAY_SEQ: a sequence number.
type Seq uint64

func (v *Seq) decode(r *reader) {
	r.zero(4)
	*v = Seq(r.u64())
	r.end()
}

func (v *Seq) encode(w *writer) {
	w.zero(4)
	w.u64(uint64(*v))
}

func (v *Seq) check() *Error  { return nil }
func (v *Seq) String() string { return fmt.Sprintf("%d", uint64(*v)) }

// Packets is the extension PACKETS: lifetime limits in packets, 0 for none.
type Packets struct{ Soft, Hard uint64 }

func (p *Packets) decode(r *reader) {
	r.skip(4)
	p.Soft, p.Hard = r.u64(), r.u64()
	r.end()
}

func (p *Packets) encode(w *writer) {
	w.u32(0)
	w.u64(p.Soft)
	w.u64(p.Hard)
}

func (p *Packets) check() *Error  { return nil }
func (p *Packets) String() string { return fmt.Sprintf("soft=%d hard=%d", p.Soft, p.Hard) }
