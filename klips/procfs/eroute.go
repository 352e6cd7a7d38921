package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"

	"github.com/klips-go/ipsec/klips"
)

// WriteEroute writes ipsec_eroute: a line for each eroute, in the order given. The lines of
// eroutes with further SAs end with these, which KLIPS does not have.
func WriteEroute(w io.Writer, eroutes []klips.Eroute) error {
	return writeLines(w, eroutes, func(b []byte, e *klips.Eroute) []byte {
		b = pad(b, 10, func(b []byte) []byte { return strconv.AppendUint(b, e.Packets, 10) })
		b = append(b, ' ')
		b = pad(b, 18, func(b []byte) []byte { return appendFlowEnd(b, e.Src, e.SrcPort) })
		b = append(b, " -> "...)
		b = pad(b, 18, func(b []byte) []byte { return appendFlowEnd(b, e.Dst, e.DstPort) })
		b = append(b, " => "...)
		b = appendSAID(b, e.ID)
		if e.Proto != 0 {
			b = append(b, ':')
			b = strconv.AppendUint(b, uint64(e.Proto), 10)
		}
		if len(e.Also) > 0 {
			b = append(b, " also"...)
		}
		for _, id := range e.Also {
			b = appendSAID(append(b, ' '), id)
		}
		return append(b, '\n')
	})
}

// pad appends the output of f, and blanks up to a width.
func pad(b []byte, width int, f func([]byte) []byte) []byte {
	start := len(b)
	b = f(b)
	for len(b)-start < width {
		b = append(b, ' ')
	}
	return b
}

// FlowEnd returns the source or destination of an eroute as in the table:
// "10.1.0.0/16", with a port "10.1.0.0/16:80" or "[2001:db8::/32]:80".
func FlowEnd(p netip.Prefix, port uint16) string { return string(appendFlowEnd(nil, p, port)) }

func appendFlowEnd(b []byte, p netip.Prefix, port uint16) []byte {
	if port == 0 {
		return appendPrefix(b, p)
	}
	if p.Addr().Is6() {
		b = append(b, '[')
		b = append(appendPrefix(b, p), ']')
	} else {
		b = appendPrefix(b, p)
	}
	b = append(b, ':')
	return strconv.AppendUint(b, uint64(port), 10)
}

// ParseEroute parses ipsec_eroute. A colon joins a protocol to its SAID, so after an
// IPv6 gateway it can look like a part of the address. It is read as a protocol if the
// line has ports, or if the address would otherwise be invalid; see
// [ParseErouteKnowing].
func ParseEroute(r io.Reader) ([]klips.Eroute, error) { return ParseErouteKnowing(nil)(r) }

// ParseErouteKnowing returns a [ParseEroute] that uses the existing SAs to find a
// protocol: if the SA with the shorter address exists and the one with the longer does
// not, the rest is a protocol. has reports whether an SA exists; it is called only for
// ambiguous lines.
func ParseErouteKnowing(has func(klips.SAID) bool) func(io.Reader) ([]klips.Eroute, error) {
	return func(r io.Reader) ([]klips.Eroute, error) {
		return records(r, "ipsec_eroute", func(line []byte) (klips.Eroute, error) { return parseEroute(line, has) })
	}
}

var errEroute = errors.New("not of the form: count source -> destination => said [also said ...]")

// parseAlso parses what follows the SAID of an eroute: nothing, or its further SAs.
func parseAlso(line []byte) (ids []klips.SAID, err error) {
	word, line := nextField(line)
	if len(word) == 0 {
		return nil, nil
	}
	if string(word) != "also" {
		return nil, errEroute
	}
	for word, line = nextField(line); len(word) > 0; word, line = nextField(line) {
		id, err := parseSAID(word)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	if ids == nil {
		return nil, errEroute
	}
	return ids, nil
}

func parseEroute(line []byte, has func(klips.SAID) bool) (e klips.Eroute, err error) {
	var f [6][]byte
	for i := range f {
		f[i], line = nextField(line)
	}
	if len(f[5]) == 0 {
		return e, errShort
	}
	if string(f[2]) != "->" || string(f[4]) != "=>" {
		return e, errEroute
	}
	if e.Also, err = parseAlso(line); err != nil {
		return e, err
	}
	if len(e.Also) > 0 { // the destination is that of all
		has = func(id klips.SAID) bool { return id.Dst == e.Also[0].Dst }
	}
	if e.Packets, err = number(f[0]); err != nil {
		return e, err
	}
	var srcPort, dstPort bool
	if e.Src, e.SrcPort, srcPort, err = parseFlowEnd(f[1]); err != nil {
		return e, err
	}
	if e.Dst, e.DstPort, dstPort, err = parseFlowEnd(f[3]); err != nil {
		return e, err
	}
	if e.Src.Addr().Is4() != e.Dst.Addr().Is4() {
		return e, fmt.Errorf("source and destination are of two families")
	}
	e.ID, e.Proto, err = parseTarget(f[5], srcPort || dstPort, has)
	return e, err
}

// parseFlowEnd parses the output of appendFlowEnd, and IPv6 with a port but without
// brackets. hasPort reports that there was a port, even 0.
func parseFlowEnd(b []byte) (p netip.Prefix, port uint16, hasPort bool, err error) {
	subnet, text := b, []byte(nil)
	if b[0] == '[' {
		inner, after, _ := bytes.Cut(b[1:], []byte("]"))
		subnet = inner
		if text, hasPort = bytes.CutPrefix(after, []byte(":")); !hasPort {
			return p, 0, false, fmt.Errorf("%s is not a subnet with a port", quote(b))
		}
	} else if slash := bytes.IndexByte(b, '/'); slash >= 0 {
		var bits []byte
		bits, text, hasPort = bytes.Cut(b[slash:], []byte(":"))
		subnet = b[:slash+len(bits)]
	}
	if p, err = parsePrefix(subnet); err == nil && hasPort {
		port, err = number16(text)
	}
	return p, port, hasPort, err
}

// parseTarget parses a SAID with or without :protocol.
func parseTarget(b []byte, ports bool, has func(klips.SAID) bool) (klips.SAID, uint8, error) {
	id, err := parseSAID(b)
	if err == nil && !id.Dst.Is6() {
		return id, 0, nil
	}
	i := bytes.LastIndexByte(b, ':')
	if i < 0 {
		return id, 0, err
	}
	proto, err1 := strconv.ParseUint(string(b[i+1:]), 10, 8)
	short, err2 := parseSAID(b[:i])
	switch {
	case err1 != nil || err2 != nil:
		return id, 0, err
	case err != nil, ports, has != nil && !has(id) && has(short):
		return short, uint8(proto), nil
	}
	return id, 0, nil
}
