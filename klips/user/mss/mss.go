// Package mss lowers the maximum segment size that a TCP SYN announces (RFC 9293 section
// 3.7.1), so that the other end sends segments that fit a tunnel. It allocates nothing and
// never reads past what it is given.
package mss

import (
	"encoding/binary"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// HeaderLen is the length in bytes of a TCP header without options.
const HeaderLen = 20

// Of a TCP header (RFC 9293 section 3.1).
const (
	flagsAt    = 13
	checksumAt = 16
	flagSYN    = 0x02

	optionEnd = 0
	optionNOP = 1
	optionMSS = 2
	mssLen    = 4
)

// IsSYN reports whether a TCP segment, from its header on, has the flag SYN.
func IsSYN(segment []byte) bool {
	return len(segment) >= HeaderLen && segment[flagsAt]&flagSYN != 0
}

// Clamp lowers the MSS that a segment with the flag SYN announces to at most most bytes, and
// corrects the checksum (RFC 1624). It reports whether it has changed anything. A segment that
// announces none is left alone: its MSS is 536 or 1220.
func Clamp(segment []byte, most int) bool {
	if !IsSYN(segment) || most < 0 || most > 0xffff {
		return false
	}
	at, ok := find(segment)
	if !ok {
		return false
	}
	old := binary.BigEndian.Uint16(segment[at:])
	if int(old) <= most {
		return false
	}
	binary.BigEndian.PutUint16(segment[at:], uint16(most))
	from, to := uint64(old), uint64(most)
	if at%2 == 1 { // its bytes are in two words of the sum
		from, to = from>>8|from&0xff<<8, to>>8|to&0xff<<8
	}
	c := uint64(^binary.BigEndian.Uint16(segment[checksumAt:]))
	c += uint64(^uint16(from)) + to
	binary.BigEndian.PutUint16(segment[checksumAt:], ^packet.Fold(c))
	return true
}

// find returns where the value of the MSS option is.
func find(segment []byte) (at int, ok bool) {
	end := int(segment[12]>>4) * 4
	if end > len(segment) {
		return 0, false
	}
	for i := HeaderLen; i < end; {
		switch segment[i] {
		case optionEnd:
			return 0, false
		case optionNOP:
			i++
			continue
		}
		if i+2 > end {
			return 0, false
		}
		n := int(segment[i+1])
		if n < 2 || i+n > end {
			return 0, false
		}
		if segment[i] == optionMSS && n == mssLen {
			return i + 2, true
		}
		i += n
	}
	return 0, false
}
