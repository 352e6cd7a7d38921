package pfkey

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// The functions of this file build the messages of a stack. Those that answer a request
// expect one that passed [Check]. A reply has the sequence number and process id of its
// request, by which its sender finds it. Messages without a request have process id 0;
// the sender sets their sequence number. No reply contains keys.

// ErrorReply answers a failed request with its header and an errno.
func ErrorReply(request Header, errno syscall.Errno) *Message {
	request.Errno = errno
	return &Message{Header: request}
}

// Ack answers a successful request with its header alone.
func Ack(request Header) *Message { return ErrorReply(request, 0) }

// reply starts the answer to a request, with copies of some extensions.
func reply(request *Message, back ...ExtType) *Message {
	m := Ack(request.Header)
	for _, t := range back {
		m.copyFrom(request, t)
	}
	return m
}

// copyFrom copies one extension, but not what it points to. It is not called for
// extensions with keys.
func (m *Message) copyFrom(o *Message, t ExtType) {
	switch t {
	case ExtSA:
		m.SA = o.SA
	case ExtLifetimeHard:
		m.LifeHard = o.LifeHard
	case ExtLifetimeSoft:
		m.LifeSoft = o.LifeSoft
	case ExtSrc:
		m.Src = o.Src
	case ExtDst:
		m.Dst = o.Dst
	case ExtIdentSrc:
		m.IdentSrc = o.IdentSrc
	case ExtIdentDst:
		m.IdentDst = o.IdentDst
	case ExtSAType2:
		m.SAType2 = o.SAType2
	case ExtSA2:
		m.SA2 = o.SA2
	case ExtDst2:
		m.Dst2 = o.Dst2
	case ExtSrcFlow:
		m.SrcFlow = o.SrcFlow
	case ExtDstFlow:
		m.DstFlow = o.DstFlow
	case ExtSrcMask:
		m.SrcMask = o.SrcMask
	case ExtDstMask:
		m.DstMask = o.DstMask
	case ExtProtocol:
		m.Protocol = o.Protocol
	case ExtPlumbIf:
		m.PlumbIf = o.PlumbIf
	}
}

// GetSPIReply answers GETSPI with the SPI that was chosen.
func GetSPIReply(request *Message, spi klips.SPI) *Message {
	m := reply(request, ExtSrc, ExtDst)
	m.SA = &SA{SPI: spi, State: klips.Larval}
	return m
}

// AddReply answers ADD with flags and SArefs of the new SA.
func AddReply(request *Message, sa *klips.SA) *Message {
	m := reply(request, ExtLifetimeHard, ExtLifetimeSoft, ExtSrc, ExtDst, ExtIdentSrc, ExtIdentDst)
	made := *request.SA
	made.Flags, made.Ref = wireFlags(sa), 0
	m.SA = &made
	m.SARef = &SARef{Me: sa.Ref, Him: sa.RefHim}
	return m
}

// UpdateReply answers UPDATE with the updated SA: like GET, with the identities and UDP
// ports of the request.
func UpdateReply(request *Message, sa *klips.SA, now time.Time) *Message {
	m := GetReply(request, sa, now)
	m.NATTType, m.NATTSPort, m.NATTDPort, m.NATTOA = nil, request.NATTSPort, request.NATTDPort, nil
	m.IdentSrc, m.IdentDst = request.IdentSrc, request.IdentDst
	return m
}

// DeleteReply answers DELETE; ref is the SAref of the removed SA.
func DeleteReply(request *Message, ref uint32) *Message {
	m := reply(request, ExtSrc, ExtDst)
	m.SA = &SA{SPI: request.SA.SPI, Ref: ref}
	return m
}

// GetReply answers GET with the SA. Times in LIFETIME_CURRENT are seconds since the
// epoch (RFC 2367 section 2.3.2), those of limits are durations.
func GetReply(request *Message, sa *klips.SA, now time.Time) *Message {
	m := Ack(request.Header)
	m.describe(sa, now)
	m.LifeHard = lifeLimits(&sa.Life, func(c klips.Counter) uint64 { return c.Hard })
	m.LifeSoft = lifeLimits(&sa.Life, func(c klips.Counter) uint64 { return c.Soft })
	if sa.NATT.Type != klips.NATTNone {
		m.NATTType = new(NATTType(sa.NATT.Type))
		m.NATTSPort, m.NATTDPort = new(Port(sa.NATT.SPort)), new(Port(sa.NATT.DPort))
	}
	return m
}

// GroupReply answers X_GRPSA with the SAs of the request.
func GroupReply(request *Message) *Message {
	return reply(request, ExtSA, ExtDst, ExtSAType2, ExtSA2, ExtDst2)
}

// GroupReplies returns the messages to other clients about a group of two SAs or more
// that one request made: those of a KLIPS kernel about the same group, one for each
// pair. All have the sequence number of the request.
func GroupReplies(request Header, ids []klips.SAID) []*Message {
	var l []*Message
	for i := 1; i < len(ids); i++ {
		m := GroupPair(ids[i-1], ids[i])
		m.Seq, m.PID = request.Seq, request.PID
		l = append(l, m)
	}
	return l
}

// AddFlowReply answers X_ADDFLOW. It repeats ports and protocol, which KLIPS left out.
func AddFlowReply(request *Message) *Message {
	return reply(request, ExtSA, ExtSrc, ExtDst, ExtSrcFlow, ExtDstFlow, ExtSrcMask, ExtDstMask, ExtProtocol)
}

// DelFlowReply answers X_DELFLOW.
func DelFlowReply(request *Message) *Message {
	return reply(request, ExtSA, ExtSrcFlow, ExtDstFlow, ExtSrcMask, ExtDstMask, ExtProtocol)
}

// PlumbReply answers X_PLUMBIF and X_UNPLUMBIF. Unlike other failures, these repeat the
// extension of the request.
func PlumbReply(request *Message, errno syscall.Errno) *Message {
	m := reply(request, ExtPlumbIf)
	m.Errno = errno
	return m
}

// RegisterReply answers REGISTER with the algorithms for SAs of its type; an empty list
// is left out.
func RegisterReply(request *Message, auth, encrypt []Algorithm) *Message {
	m := Ack(request.Header)
	if len(auth) > 0 {
		m.SupportedAuth = &Supported{Algs: auth}
	}
	if len(encrypt) > 0 {
		m.SupportedEnc = &Supported{Algs: encrypt}
	}
	return m
}

// Expire reports that an SA's hard or soft limits have passed. As in KLIPS, it has no
// SAref.
func Expire(sa *klips.SA, hard bool, now time.Time) *Message {
	m := &Message{Header: Header{Type: TypeExpire, SAType: SATypeOf(sa.ID.Proto)}}
	m.describe(sa, now)
	m.SA.Ref = 0
	if hard {
		m.LifeHard = orZero(lifeLimits(&sa.Life, func(c klips.Counter) uint64 { return c.Hard }))
	} else {
		m.LifeSoft = orZero(lifeLimits(&sa.Life, func(c klips.Counter) uint64 { return c.Soft }))
	}
	return m
}

// An Acquisition is a packet that a %trap eroute caught.
type Acquisition struct {
	Src, Dst           netip.AddrPort // ports are 0 unless the eroute has ports
	Proto              uint8          // 0 unless the eroute has a protocol
	IdentSrc, IdentDst *Ident
}

// Acquire asks key daemons for an SA in KLIPS' form: for ESP with 3DES and MD5 or SHA1.
func Acquire(a Acquisition) *Message {
	m := &Message{Header: Header{Type: TypeAcquire, SAType: SATypeESP}}
	m.Src = &Address{Addr: a.Src.Addr(), Port: a.Src.Port(), Proto: a.Proto}
	m.Dst = &Address{Addr: a.Dst.Addr(), Port: a.Dst.Port(), Proto: a.Proto}
	m.IdentSrc, m.IdentDst = a.IdentSrc, a.IdentDst
	comb := func(auth alg.Auth, bits uint16) Comb {
		return Comb{
			Auth: uint8(auth), AuthMin: bits, AuthMax: bits,
			Encrypt: uint8(alg.TripleDES), EncMin: 168, EncMax: 168,
			Flags:   uint16(klips.FlagPFS),
			SoftAdd: 57600, HardAdd: 86400, SoftUse: 57600, HardUse: 86400,
		}
	}
	m.Proposal = &Proposal{Replay: MaxWindow, Combs: []Comb{comb(alg.MD5, 128), comb(alg.SHA1, 160)}}
	return m
}

// NewMapping reports that the peer of a UDP-encapsulated SA sends from another address
// or port.
func NewMapping(id klips.SAID, from, to netip.AddrPort) *Message {
	m := &Message{Header: Header{Type: TypeNATTMapping, SAType: SATypeOf(id.Proto)}}
	m.SA = &SA{SPI: id.SPI}
	m.Src = &Address{Addr: from.Addr(), Proto: uint8(klips.ProtoESP)}
	m.Dst = &Address{Addr: to.Addr(), Proto: uint8(klips.ProtoESP)}
	m.NATTSPort, m.NATTDPort = new(Port(from.Port())), new(Port(to.Port()))
	return m
}

// describe sets the extensions of an SA in GET and EXPIRE.
func (m *Message) describe(sa *klips.SA, now time.Time) {
	m.SA = &SA{
		SPI: sa.ID.SPI, Replay: uint8(min(sa.Window, MaxWindow)), State: sa.State,
		Auth: sa.Transform.Auth, Encrypt: uint8(sa.Transform.Enc), Flags: wireFlags(sa), Ref: sa.Ref,
	}
	if sa.ID.Proto == klips.ProtoComp {
		m.SA.Encrypt = uint8(sa.Transform.Comp)
	}
	m.LifeCurrent = &Lifetime{
		Allocations: saturate(sa.Life.Allocations.Count),
		Bytes:       sa.Life.Bytes.Count,
		AddTime:     since(now, sa.Life.AddTime.Count),
	}
	if sa.Used {
		m.LifeCurrent.UseTime = since(now, sa.Life.UseTime.Count)
	}
	src := sa.Src
	if !src.IsValid() {
		src = anyOf(sa.ID.Dst)
	}
	m.Src, m.Dst = &Address{Addr: src}, &Address{Addr: sa.ID.Dst}
}

// inboundFlag marks inbound SAs in KLIPS' messages. The same bit is also PFS.
const inboundFlag = 1

func wireFlags(sa *klips.SA) uint32 {
	f := sa.Flags
	if sa.ESN {
		f |= klips.FlagESN
	}
	if sa.Dir == klips.Inbound {
		f |= inboundFlag
	}
	return f
}

// lifeLimits returns the limits that of selects, nil if all are zero.
func lifeLimits(l *klips.Life, of func(klips.Counter) uint64) *Lifetime {
	t := Lifetime{
		Allocations: saturate(of(l.Allocations)), Bytes: of(l.Bytes),
		AddTime: of(l.AddTime), UseTime: of(l.UseTime),
	}
	if t == (Lifetime{}) {
		return nil
	}
	return &t
}

func orZero(l *Lifetime) *Lifetime {
	if l == nil {
		return new(Lifetime)
	}
	return l
}

func saturate(v uint64) uint32 { return uint32(min(v, 1<<32-1)) }

// since returns the time some seconds before now.
func since(now time.Time, seconds uint64) uint64 {
	t := uint64(max(now.Unix(), 0))
	return t - min(t, seconds)
}
