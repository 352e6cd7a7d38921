package nlxfrm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"runtime"
)

// Address families by Linux' numbers, which messages have on whatever system they are
// decoded.
const (
	FamilyUnspec uint16 = 0  // AF_UNSPEC
	FamilyIPv4   uint16 = 2  // AF_INET
	FamilyIPv6   uint16 = 10 // AF_INET6
)

// Message types, XFRM_MSG_*.
const (
	msgNewSA     = 0x10
	msgDelSA     = 0x11
	msgGetSA     = 0x12
	msgNewPolicy = 0x13
	msgDelPolicy = 0x14
	msgGetPolicy = 0x15
	msgUpdPolicy = 0x19
	msgUpdSA     = 0x1a
	msgNewAE     = 0x1e
	msgGetAE     = 0x1f
	msgNewSAD    = 0x22 // SADINFO: about all states
	msgGetSAD    = 0x23
	msgNewSPD    = 0x24 // SPDINFO: about all policies
	msgGetSPD    = 0x25
)

// Attributes, XFRMA_*, that follow the structs at the start of messages.
const (
	attrAlgAuth      = 1
	attrAlgCrypt     = 2
	attrAlgComp      = 3
	attrEncap        = 4
	attrTmpl         = 5
	attrLtimeVal     = 9
	attrReplayVal    = 10
	attrLastUsed     = 15
	attrPolicyType   = 16
	attrAlgAEAD      = 18
	attrAlgAuthTrunc = 20
	attrMark         = 21
	attrTFCPad       = 22
	attrReplayESNVal = 23
	attrSAExtraFlags = 24
	attrProto        = 25
	attrOffloadDev   = 28
	attrSetMark      = 29
	attrSetMarkMask  = 30
	attrIfID         = 31
	attrSADir        = 33
	attrSAPCPU       = 35
)

// Lengths of the kernel's structs.
const (
	addrLen        = 16
	selectorLen    = 56
	idLen          = 24
	lifetimeLen    = 64
	currentLen     = 32
	userSAIDLen    = 24
	aeventIDLen    = 48
	policyIDLen    = 64
	templateLen    = 64
	encapLen       = 24
	replayLen      = 12
	replayESNLen   = 24 // and the bitmap
	offloadLen     = 8
	policyTypeLen  = 6
	algNameLen     = 64
	algHeadLen     = algNameLen + 4 // and the key
	algLongHeadLen = algNameLen + 8 // in auth_trunc and aead
	attrHeadLen    = 4
)

// saInfoLen and policyInfoLen are lengths of structs that end in padding. i386 has less
// padding: it aligns 64-bit numbers to 4.
var saInfoLen, policyInfoLen = func() (int, int) {
	if runtime.GOARCH == "386" {
		return 220, 164
	}
	return 224, 168
}()

// ErrMalformed is the error of a message that cannot be decoded.
var ErrMalformed = errors.New("malformed xfrm message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

var (
	native = binary.NativeEndian
	be     = binary.BigEndian
)

// appendAttr appends an attribute with its padding, and returns its payload of n zero
// bytes for the caller to fill.
func appendAttr(b []byte, typ uint16, n int) (msg, payload []byte) {
	b = native.AppendUint16(b, uint16(attrHeadLen+n))
	b = native.AppendUint16(b, typ)
	start := len(b)
	b = append(b, make([]byte, (n+3)&^3)...)
	return b, b[start : start+n]
}

func appendUint32(b []byte, typ uint16, v uint32) []byte {
	b, p := appendAttr(b, typ, 4)
	native.PutUint32(p, v)
	return b
}

// attrs yields the attributes of b. The payloads alias b, because copies of keys, such
// as those of package netlink's decoder, could not be cleared.
func attrs(b []byte, err *error) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) > 0 {
			if len(b) < attrHeadLen {
				*err = malformed("%d bytes behind the last attribute", len(b))
				return
			}
			n := int(native.Uint16(b))
			if n < attrHeadLen || n > len(b) {
				*err = malformed("attribute of %d bytes, %d are there", n, len(b))
				return
			}
			const flags = 0xc000 // NLA_F_NESTED, NLA_F_NET_BYTEORDER
			if !yield(native.Uint16(b[2:])&^flags, b[attrHeadLen:n]) {
				return
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	}
}

// want returns an error for an attribute shorter than the kernel's struct. Longer ones
// come from newer kernels.
func want(typ uint16, p []byte, n int) error {
	if len(p) < n {
		return malformed("attribute %d has %d bytes, want %d", typ, len(p), n)
	}
	return nil
}

// familyOf returns the family of the first valid address.
func familyOf(addrs ...netip.Addr) uint16 {
	for _, a := range addrs {
		switch {
		case a.Is4():
			return FamilyIPv4
		case a.Is6():
			return FamilyIPv6
		}
	}
	return FamilyUnspec
}

// putAddr writes an xfrm_address_t; the zero Addr is all zeros.
func putAddr(b []byte, a netip.Addr) {
	if a.IsValid() {
		copy(b, a.AsSlice())
	}
}

// getAddr reads an xfrm_address_t. A family without addresses gives none.
func getAddr(b []byte, family uint16) netip.Addr {
	switch family {
	case FamilyIPv4:
		return netip.AddrFrom4([4]byte(b))
	case FamilyIPv6:
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.Addr{}
}

// checkFamily refuses addresses of another family or with a zone. The zero Addr fits
// every family.
func checkFamily(what string, family uint16, addrs ...netip.Addr) error {
	for _, a := range addrs {
		if !a.IsValid() {
			continue
		}
		if a.Zone() != "" {
			return fmt.Errorf("%s: address %v has a zone", what, a)
		}
		if f := familyOf(a); f != family {
			return fmt.Errorf("%s: address %v is not of family %d", what, a, family)
		}
	}
	return nil
}
