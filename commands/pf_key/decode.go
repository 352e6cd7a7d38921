package pf_key

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klips-go/ipsec/klips/pfkey"
)

// headerLen is the length of a message's header, in bytes.
const headerLen = 16

// A printer writes messages as text. Each message is one call of Write, so that other
// programs read whole messages from a pipe or a file.
type printer struct {
	w    io.Writer
	name string // of this program, for messages about PF_KEY messages
	// words: print a message in words instead of numbers.
	words bool
}

// message prints one message, or the reason why it is not valid.
func (p *printer) message(b []byte) error {
	if len(b) < headerLen {
		return p.say("runt packet of size: %d (<%d)", len(b), headerLen)
	}
	if words := binary.NativeEndian.Uint16(b[4:]); len(b) != 8*int(words) {
		return p.say("packet size read from socket=%d doesn't equal sadb_msg_len %d * 8; message not decoded", len(b), words)
	}
	if p.words {
		_, err := fmt.Fprintln(p.w, inWords(b))
		return err
	}
	text := appendMessage(make([]byte, 0, 256+8*len(b)), b)
	defer clear(text) // a file may contain keys
	_, err := p.w.Write(text)
	return err
}

// say prints a line about the messages or their end.
func (p *printer) say(format string, args ...any) error {
	_, err := fmt.Fprintf(p.w, "%s: "+format+"\n", append([]any{p.name}, args...)...)
	return err
}

// file prints the messages of a file in their order.
func (p *printer) file(b []byte) error {
	for len(b) > 0 {
		n := len(b)
		if n >= headerLen {
			// If the length is not possible, the rest of the file is one message, which
			// is reported and not decoded.
			if words := int(binary.NativeEndian.Uint16(b[4:])); 8*words >= headerLen {
				n = min(n, 8*words)
			}
		}
		if err := p.message(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// appendMessage appends the text of a message whose length is that of its header: an
// empty line, its header in words, and one line with all of it.
func appendMessage(t, b []byte) []byte {
	version, typ, errno, satype := b[0], b[1], b[2], b[3]
	words := binary.NativeEndian.Uint16(b[4:])
	seq, pid := binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:])
	t = fmt.Appendf(t, "\npfkey v%d msg. type=%d(%s) seq=%d len=%d pid=%d errno=%d satype=%d(%s)\n",
		version, typ, typeName(typ), int32(seq), words, int32(pid), errno, satype, satypeName(satype))
	t = fmt.Appendf(t, "version=%d type=%d errno=%d satype=%d len=%d seq=%d pid=%d ",
		version, typ, errno, satype, words, seq, pid)
	return append(appendExts(t, b[headerLen:]), '\n')
}

// appendExts appends the text of all extensions.
func appendExts(t, b []byte) []byte {
	for len(b) > 0 {
		// Messages have a multiple of 8 bytes, so these four bytes exist.
		words, typ := binary.NativeEndian.Uint16(b), binary.NativeEndian.Uint16(b[2:])
		t = fmt.Appendf(t, "{ext=%d len=%d ", typ, words)
		n := 8 * int(words)
		switch {
		case n == 0:
			t = fmt.Appendf(t, "ext_len (%d) too small for sadb_ext header ", words)
			return fmt.Appendf(t, "%d bytes left over", len(b))
		case n > len(b):
			t = fmt.Appendf(t, "short-packet(%d<%d) ", len(b), n)
			return appendBytes(t, b)
		}
		t = appendExt(t, pfkey.ExtType(typ), b[:n])
		b = b[n:]
	}
	return t
}

// appendExt appends the text of an extension after its type and length.
func appendExt(t []byte, typ pfkey.ExtType, b []byte) []byte {
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	small := func(name string) []byte { return appendBytes(append(t, "too small for struct "+name+" "...), b) }
	switch typ {
	case pfkey.ExtSA:
		if len(b) < 24 {
			return small("k_sadb_sa")
		}
		// The SPI is read in the byte order of the host, although it has network order:
		// the output has always been so.
		return fmt.Appendf(t, "spi=%08x replay=%d state=%d auth=%d encrypt=%d flags=%08x ref=%08x}",
			u32(b[4:]), b[8], b[9], b[10], b[11], u32(b[12:]), u32(b[16:]))
	case pfkey.ExtSrc, pfkey.ExtDst, pfkey.ExtSrcFlow, pfkey.ExtDstFlow, pfkey.ExtSrcMask, pfkey.ExtDstMask:
		return fmt.Appendf(t, "proto=%d prefixlen=%d addr=0x%x } ", b[4], b[5], b[8:])
	case pfkey.ExtProtocol:
		return fmt.Appendf(t, "proto=%d direction=%d flags=%d } ", b[4], b[5], b[6])
	case pfkey.ExtLifetimeCurrent, pfkey.ExtLifetimeHard, pfkey.ExtLifetimeSoft:
		if len(b) < 32 {
			return small("sadb_lifetime")
		}
		t = fmt.Appendf(t, "allocations=%d bytes=%d addtime=%d usetime=%d ", u32(b[4:]), u64(b[8:]), u64(b[16:]), u64(b[24:]))
		if len(b) >= 40 { // the form of old kernels
			t = fmt.Appendf(t, "packets=%d ", u32(b[32:]))
		}
		return append(t, "} "...)
	}
	return appendBytes(t, b)
}

// appendBytes appends an extension in hex.
func appendBytes(t, b []byte) []byte { return fmt.Appendf(t, "bytes=0x%x } ", b[4:]) }

func typeName(t uint8) string {
	names := [...]string{
		"reserved", "getspi", "update", "add", "delete", "get", "acquire", "register", "expire", "flush", "dump",
		"x-promisc", "x-pchange", "x-groupsa", "x-addflow(eroute)", "x-delflow(eroute)", "x-debug",
		"x-natt-new-mapping", "x-plumbif", "x-unplumbif",
	}
	if int(t) < len(names) {
		return names[t]
	}
	return "unknown-sadb-type"
}

func satypeName(s uint8) string {
	switch s := pfkey.SAType(s); s {
	case pfkey.SATypeAH, pfkey.SATypeESP, pfkey.SATypeIPIP, pfkey.SATypeComp, pfkey.SATypeInt:
		return s.String()
	}
	return "UNKNOWN"
}
