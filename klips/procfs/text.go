package procfs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// readLines passes each line of a table that is not blank to f, without its newline;
// the bytes are valid until f returns. The lines that f refuses are returned in an
// *UnreadError after the last line.
func readLines(r io.Reader, table string, f func(line []byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 16<<10), math.MaxInt) // no line is too long
	var lines []klips.UnreadLine
	for n := 1; s.Scan(); n++ {
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		if err := f(s.Bytes()); err != nil {
			lines = append(lines, unread(table, n, s.Bytes(), err))
		}
	}
	if s.Err() != nil {
		return fmt.Errorf("read %s: %w", table, s.Err())
	}
	if lines != nil {
		return &UnreadError{lines}
	}
	return nil
}

// records parses the records of a table, one a line.
func records[T any](r io.Reader, table string, parse func(line []byte) (T, error)) ([]T, error) {
	var l []T
	err := readLines(r, table, func(line []byte) error {
		v, err := parse(line)
		if err == nil {
			l = append(l, v)
		}
		return err
	})
	return l, err
}

// writeLines writes what line appends for each record, in large pieces and without
// allocation per record.
func writeLines[T any](w io.Writer, records []T, line func(b []byte, r *T) []byte) error {
	b := make([]byte, 0, 32<<10)
	for i := range records {
		b = line(b, &records[i])
		if len(b) > 28<<10 {
			if _, err := w.Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	if len(b) == 0 {
		return nil
	}
	_, err := w.Write(b)
	return err
}

// quote makes a part of a line printable in an error.
func quote(b []byte) string {
	const most = 40
	if len(b) > most {
		return strconv.Quote(string(b[:most])) + "…"
	}
	return strconv.Quote(string(b))
}

var errShort = errors.New("cut short")

// number parses a decimal or, with 0x, hexadecimal number. KLIPS prints some unsigned
// values as signed: negative ones wrap around.
func number(b []byte) (uint64, error) {
	s := string(b)
	if h, ok := strings.CutPrefix(s, "0x"); ok {
		if v, err := strconv.ParseUint(h, 16, 64); err == nil {
			return v, nil
		}
	} else if v, err := strconv.ParseUint(s, 10, 64); err == nil {
		return v, nil
	} else if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		return uint64(v), nil
	}
	return 0, fmt.Errorf("%s is not a number", quote(b))
}

// number16 parses a decimal number of 16 bits.
func number16(b []byte) (uint16, error) {
	v, err := strconv.ParseUint(string(b), 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number of 16 bits", quote(b))
	}
	return uint16(v), nil
}

func parseAddr(b []byte) (netip.Addr, error) {
	a, err := netip.ParseAddr(string(b))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%s is not an address", quote(b))
	}
	return a, nil
}

// parsePrefix parses addr/bits. The address may have bits outside the mask, which a
// KLIPS kernel accepts.
func parsePrefix(b []byte) (netip.Prefix, error) {
	addr, bits, ok := bytes.Cut(b, []byte("/"))
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%s is not a subnet", quote(b))
	}
	a, err := parseAddr(addr)
	if err != nil {
		return netip.Prefix{}, err
	}
	n, err := strconv.ParseUint(string(bits), 10, 8)
	if err != nil || int(n) > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("%s is not a prefix length", quote(bits))
	}
	return netip.PrefixFrom(a, int(n)), nil
}

// parseSAID parses the form of the listings, and the dotted one of old tables. The
// destination is invalid if the SA's memory was freed.
func parseSAID(b []byte) (klips.SAID, error) {
	var id klips.SAID
	err := id.UnmarshalText(b)
	if err != nil {
		id, err = syntax.ParseSAID(string(b), nil)
	}
	if _, dst, ok := bytes.Cut(b, []byte("@")); ok && err == nil && id.Dst.IsValid() {
		// Abbreviated addresses are valid on command lines, but here they are truncated
		// lines.
		_, err = parseAddr(dst)
	}
	if err != nil || len(b) == 0 {
		return klips.SAID{}, fmt.Errorf("%s is not a SAID", quote(b))
	}
	return id, nil
}

// appendSAID appends [klips.SAID.String].
func appendSAID(b []byte, id klips.SAID) []byte {
	b, _ = id.AppendText(b) // it never fails
	return b
}

func appendPrefix(b []byte, p netip.Prefix) []byte {
	b = klips.AppendAddr(b, p.Addr())
	b = append(b, '/')
	return strconv.AppendInt(b, int64(max(p.Bits(), 0)), 10)
}

// appendField appends " name=value".
func appendField(b []byte, name string, v uint64) []byte {
	b = append(b, ' ')
	b = append(b, name...)
	b = append(b, '=')
	return strconv.AppendUint(b, v, 10)
}

// appendOptional appends a field unless it is 0.
func appendOptional(b []byte, name string, v uint64) []byte {
	if v == 0 {
		return b
	}
	return appendField(b, name, v)
}

func parseHex(b []byte) ([]byte, error) {
	digits, ok := bytes.CutPrefix(b, []byte("0x"))
	v := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(v, digits); err != nil || !ok {
		return nil, fmt.Errorf("%s is not in hexadecimal", quote(b))
	}
	return v, nil
}
