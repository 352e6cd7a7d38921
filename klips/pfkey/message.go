package pfkey

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"strings"
	"syscall"
)

// headerLen is the length of a message without extensions.
const headerLen = 16

// maxWords is the greatest length in the headers of messages and extensions, in 8-byte
// words.
const maxWords = 1<<16 - 1

// MaxMessage is the maximum length of a message that is sent, in bytes.
const MaxMessage = 1 << 16

// A Header is the head of every message. Its version is always PF_KEY_V2.
type Header struct {
	Type   Type
	Errno  syscall.Errno // 0 in requests; the wire has one byte for it
	SAType SAType
	Seq    uint32
	PID    uint32 // sender's process id; 0 in messages that the stack originates
}

// A Message is a PF_KEY message. Extensions that are nil are absent.
type Message struct {
	Header

	SA            *SA
	LifeCurrent   *Lifetime
	LifeHard      *Lifetime
	LifeSoft      *Lifetime
	Src           *Address
	Dst           *Address
	Proxy         *Address
	KeyAuth       *Key
	KeyEncrypt    *Key
	IdentSrc      *Ident
	IdentDst      *Ident
	Sensitivity   *Opaque
	Proposal      *Proposal
	SupportedAuth *Supported
	SupportedEnc  *Supported
	SPIRange      *SPIRange
	KMPrivate     *Opaque
	SAType2       *SAType
	SA2           *SA
	Dst2          *Address
	SrcFlow       *Address
	DstFlow       *Address
	SrcMask       *Address
	DstMask       *Address
	Debug         *DebugMasks
	Protocol      *Protocol
	NATTType      *NATTType
	NATTSPort     *Port
	NATTDPort     *Port
	NATTOA        *Address
	PlumbIf       *Device
	SARef         *SARef

	// Private has the extensions of a private protocol, in ascending order of type.
	Private []Extension
	// Files are descriptors to send with a request over a unix socket; other sockets
	// cannot send them. The code that sets them closes them after the call. Only the
	// embedded daemon accepts any.
	Files []int
	// Unnumbered sends a request with the sequence number 0.
	Unnumbered bool
}

// FirstPrivate is the first number for types of messages and extensions of a private
// protocol, the one of stack user (package control). Neither RFC 2367 nor KLIPS uses it
// or a greater one. A KLIPS kernel answers them with EINVAL.
const FirstPrivate = 64

// An Extension is an extension of a private protocol, in wire form.
type Extension struct {
	Type ExtType // FirstPrivate or above
	Body []byte  // the bytes after length and type, up to the end of the last word of 8 bytes
}

// maxPrivate is the maximum number of private extensions in a message.
const maxPrivate = 16

// A slot is the place of one extension in a Message.
type slot interface {
	get() ext  // nil when absent
	make() ext // makes it present with a zero value
}

type slotOf[T any, P interface {
	*T
	ext
}] struct{ p *P }

func (s slotOf[T, P]) get() ext {
	if *s.p == nil {
		return nil
	}
	return *s.p
}

func (s slotOf[T, P]) make() ext {
	*s.p = new(T)
	return *s.p
}

func at[T any, P interface {
	*T
	ext
}](p *P) slot {
	return slotOf[T, P]{p}
}

// slot returns the place of an extension, nil for unknown types.
func (m *Message) slot(t ExtType) slot {
	switch t {
	case ExtSA:
		return at(&m.SA)
	case ExtLifetimeCurrent:
		return at(&m.LifeCurrent)
	case ExtLifetimeHard:
		return at(&m.LifeHard)
	case ExtLifetimeSoft:
		return at(&m.LifeSoft)
	case ExtSrc:
		return at(&m.Src)
	case ExtDst:
		return at(&m.Dst)
	case ExtProxy:
		return at(&m.Proxy)
	case ExtKeyAuth:
		return at(&m.KeyAuth)
	case ExtKeyEncrypt:
		return at(&m.KeyEncrypt)
	case ExtIdentSrc:
		return at(&m.IdentSrc)
	case ExtIdentDst:
		return at(&m.IdentDst)
	case ExtSensitivity:
		return at(&m.Sensitivity)
	case ExtProposal:
		return at(&m.Proposal)
	case ExtSupportedAuth:
		return at(&m.SupportedAuth)
	case ExtSupportedEnc:
		return at(&m.SupportedEnc)
	case ExtSPIRange:
		return at(&m.SPIRange)
	case ExtKMPrivate:
		return at(&m.KMPrivate)
	case ExtSAType2:
		return at(&m.SAType2)
	case ExtSA2:
		return at(&m.SA2)
	case ExtDst2:
		return at(&m.Dst2)
	case ExtSrcFlow:
		return at(&m.SrcFlow)
	case ExtDstFlow:
		return at(&m.DstFlow)
	case ExtSrcMask:
		return at(&m.SrcMask)
	case ExtDstMask:
		return at(&m.DstMask)
	case ExtDebug:
		return at(&m.Debug)
	case ExtProtocol:
		return at(&m.Protocol)
	case ExtNATTType:
		return at(&m.NATTType)
	case ExtNATTSPort:
		return at(&m.NATTSPort)
	case ExtNATTDPort:
		return at(&m.NATTDPort)
	case ExtNATTOA:
		return at(&m.NATTOA)
	case ExtPlumbIf:
		return at(&m.PlumbIf)
	case ExtSARef:
		return at(&m.SARef)
	}
	return nil
}

// Has reports whether the message carries an extension of RFC 2367 or KLIPS.
func (m *Message) Has(t ExtType) bool {
	s := m.slot(t)
	return s != nil && s.get() != nil
}

// exts yields the present extensions of RFC 2367 and KLIPS, in ascending order of type.
func (m *Message) exts() iter.Seq2[ExtType, ext] {
	return func(yield func(ExtType, ext) bool) {
		for t := ExtType(1); t <= maxExt; t++ {
			if e := m.slot(t).get(); e != nil && !yield(t, e) {
				return
			}
		}
	}
}

// ParseHeader reads the head of a message, with the checks that a KLIPS kernel makes
// first. Errors are *[Error] with EMSGSIZE if the length is not the message's own, and
// EINVAL for others. If only the length or the part after the first 16 bytes is wrong,
// the header is returned with the error, so that the sender can get an answer.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < headerLen {
		return Header{}, fault(syscall.EMSGSIZE, "%d bytes, a header has %d", len(b), headerLen)
	}
	if b[0] != version {
		return Header{}, fault(syscall.EINVAL, "version %d", b[0])
	}
	h := Header{
		Type:   Type(b[1]),
		Errno:  syscall.Errno(b[2]),
		SAType: SAType(b[3]),
		Seq:    binary.NativeEndian.Uint32(b[8:]),
		PID:    binary.NativeEndian.Uint32(b[12:]),
	}
	if n := 8 * int(binary.NativeEndian.Uint16(b[4:])); n != len(b) {
		return h, fault(syscall.EMSGSIZE, "%d bytes, its header says %d", len(b), n)
	}
	if binary.NativeEndian.Uint16(b[6:]) != 0 {
		return h, fault(syscall.EINVAL, "a reserved field of the header is not zero")
	}
	if h.Type == 0 || h.Type > maxType && h.Type < FirstPrivate {
		return h, fault(syscall.EINVAL, "unknown type %d", h.Type)
	}
	return h, nil
}

// Split returns the first message of a bundle, several messages one after the other, and
// the others; both point into b. If no whole message is first, it returns all of b, which
// [ParseHeader] refuses.
func Split(b []byte) (first, rest []byte) {
	if len(b) < headerLen {
		return b, nil
	}
	if n := 8 * int(binary.NativeEndian.Uint16(b[4:])); n >= headerLen && n <= len(b) {
		return b[:n], b[n:]
	}
	return b, nil
}

// Parse reads one message, a request or a reply. It accepts all that the wire format
// can express; [Check] applies the rules. Nothing in the Message points into b.
// Extensions may come in any order, each once. Errors are *[Error], which wraps the
// errno of a KLIPS kernel: EMSGSIZE, EINVAL, or EPFNOSUPPORT for an address that is
// neither IPv4 nor IPv6.
func Parse(b []byte) (*Message, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return nil, err
	}
	m := &Message{Header: h}
	if err := m.parseExts(b[headerLen:]); err != nil {
		err.Type = h.Type
		m.Clear()
		return nil, err
	}
	return m, nil
}

func (m *Message) parseExts(b []byte) *Error {
	for len(b) > 0 {
		// Messages consist of whole words, so four bytes are always left.
		n := 8 * int(binary.NativeEndian.Uint16(b))
		t := ExtType(binary.NativeEndian.Uint16(b[2:]))
		if n == 0 || n > len(b) {
			return &Error{syscall.EINVAL, 0, t, fmt.Sprintf("%d bytes long where %d remain", n, len(b))}
		}
		if t >= FirstPrivate {
			if err := m.addPrivate(t, b[4:n]); err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		s := m.slot(t)
		if s == nil {
			return fault(syscall.EINVAL, "unknown extension %d", t)
		}
		if s.get() != nil {
			return &Error{syscall.EINVAL, 0, t, "there twice"}
		}
		r := reader{b: b[4:n]}
		s.make().decode(&r)
		if r.err != nil {
			r.err.Ext = t
			return r.err
		}
		b = b[n:]
	}
	return nil
}

// addPrivate adds a copy of a private extension, in order of type.
func (m *Message) addPrivate(t ExtType, body []byte) *Error {
	at, there := slices.BinarySearchFunc(m.Private, t, func(e Extension, t ExtType) int { return cmp.Compare(e.Type, t) })
	switch {
	case there:
		return &Error{syscall.EINVAL, 0, t, "there twice"}
	case len(m.Private) == maxPrivate:
		return &Error{syscall.EINVAL, 0, t, fmt.Sprintf("one of more than %d that KLIPS does not know", maxPrivate)}
	}
	m.Private = slices.Insert(m.Private, at, Extension{t, bytes.Clone(body)})
	return nil
}

// Append appends the message in wire form to b and returns the longer slice.
// Extensions come in ascending order of type; reserved fields and padding are
// zero. Errors are *[Error] with EINVAL for fields that cannot be sent, such as
// an address that was not set, and EMSGSIZE for a message that is too long; b
// is then returned as it was.
func (m *Message) Append(b []byte) ([]byte, error) {
	if m.Errno > 255 {
		return b, &Error{syscall.EINVAL, m.Type, 0, fmt.Sprintf("errno %d does not fit", int(m.Errno))}
	}
	start := len(b)
	w := writer{b: append(b, version, byte(m.Type), byte(m.Errno), byte(m.SAType))}
	w.u32(0) // length, reserved
	w.u32(m.Seq)
	w.u32(m.PID)
	for t, e := range m.exts() {
		w.extension(t, e.encode)
	}
	for _, e := range m.Private {
		w.extension(e.Type, func(w *writer) { w.bytes(e.Body) })
	}
	if w.err != nil {
		w.err.Type = m.Type
		clear(w.b[start:])
		return b[:start], w.err
	}
	words := (len(w.b) - start) / 8
	if words > maxWords {
		clear(w.b[start:])
		return b[:start], &Error{syscall.EMSGSIZE, m.Type, 0, fmt.Sprintf("%d bytes do not fit", 8*words)}
	}
	binary.NativeEndian.PutUint16(w.b[start+4:], uint16(words))
	return w.b, nil
}

// extension writes one extension; body writes what follows length and type. After an
// error it writes nothing.
func (w *writer) extension(t ExtType, body func(*writer)) {
	if w.err != nil {
		return
	}
	at := len(w.b)
	w.u16(0)
	w.u16(uint16(t))
	body(w)
	w.zero(-(len(w.b) - at) & 7)
	words := (len(w.b) - at) / 8
	if w.err == nil && words > maxWords {
		w.err = fault(syscall.EMSGSIZE, "%d bytes do not fit", 8*words)
	}
	if w.err != nil {
		w.err.Ext = t
		return
	}
	binary.NativeEndian.PutUint16(w.b[at:], uint16(words))
}

// Marshal returns the message in wire form, see [Message.Append]. If the message has
// keys, the caller clears the bytes after use.
func (m *Message) Marshal() ([]byte, error) { return m.Append(newMessage()) }

// newMessage returns room for any message of the tools: growing would leave keys in
// smaller arrays.
func newMessage() []byte { return make([]byte, 0, 512) }

// Clear overwrites the keys in the message with zeros. A message has no other secrets.
func (m *Message) Clear() {
	m.KeyAuth.Clear()
	m.KeyEncrypt.Clear()
}

// String returns the message on one line, for logs, without keys.
func (m *Message) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%v seq=%d pid=%d", m.Type, m.Seq, m.PID)
	if m.SAType != 0 {
		fmt.Fprintf(&s, " satype=%v", m.SAType)
	}
	if m.Errno != 0 {
		fmt.Fprintf(&s, " errno=%d", int(m.Errno))
	}
	for t, e := range m.exts() {
		fmt.Fprintf(&s, " %v(%s)", t, e.String())
	}
	for _, e := range m.Private {
		fmt.Fprintf(&s, " %v(%d bytes)", e.Type, len(e.Body))
	}
	return s.String()
}
