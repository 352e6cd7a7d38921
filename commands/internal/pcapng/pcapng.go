// Package pcapng writes packets as a file that Wireshark and tcpdump read: a PCAP Next
// Generation capture file (draft-ietf-opsawg-pcapng), little-endian, with one section.
package pcapng

import (
	"encoding/binary"
	"io"
	"math"
	"strings"
	"time"
)

// A LinkType is what the packets of an interface begin with, as a number of libpcap.
type LinkType uint16

// LinkRaw: packets begin with their IP header, of either version.
const LinkRaw LinkType = 101

// A Direction is the direction of a packet, as seen by its host.
type Direction uint8

// The directions, with the numbers of the option epb_flags.
const (
	Unknown Direction = iota
	Inbound
	Outbound
)

// An Interface is a device whose packets are in a file.
type Interface struct {
	Name        string
	Description string // empty: none
	Link        LinkType
	SnapLen     uint32 // the length to which packets are cut, in bytes; 0: they are whole
}

// A Packet is one packet of a file.
type Packet struct {
	Interface uint32 // a result of [Writer.AddInterface]
	Time      time.Time
	Data      []byte // the Writer keeps no reference to it
	Length    int    // of the packet before it was cut, in bytes
	Direction Direction
	Comment   string // in UTF-8; empty: none
}

// Types of blocks.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 6
)

// byteOrder is the number by which a reader finds the byte order of a section.
const byteOrder = 0x1a2b3c4d

// Codes of options. Each kind of block has its own, from 2 on.
const (
	optEnd         = 0
	optComment     = 1
	optApplication = 4 // shb_userappl
	optName        = 2 // if_name
	optDescription = 3 // if_description
	optResolution  = 9 // if_tsresol
	optFlags       = 2 // epb_flags
)

// nanoseconds is the value of if_tsresol for times in units of 10^-9 seconds.
const nanoseconds = 9

// A Writer writes a file. Each block is one call of the Write of its output, so that a
// program that reads along has whole blocks. After an error the file ends within a block.
type Writer struct {
	out        io.Writer
	block      []byte
	interfaces uint32
}

// NewWriter begins a file. application is the name and version of the program.
func NewWriter(out io.Writer, application string) (*Writer, error) {
	w := &Writer{out: out}
	w.begin(blockSection)
	w.u32(byteOrder)
	w.u16(1) // the version, 1.0
	w.u16(0)
	w.u64(math.MaxUint64) // the length of the section is not known
	w.text(optApplication, application)
	return w, w.end()
}

// AddInterface adds an interface, and returns its number.
func (w *Writer) AddInterface(i Interface) (uint32, error) {
	w.begin(blockInterface)
	w.u16(uint16(i.Link))
	w.u16(0) // reserved
	w.u32(i.SnapLen)
	w.text(optName, i.Name)
	w.text(optDescription, i.Description)
	w.option(optResolution, []byte{nanoseconds})
	n := w.interfaces
	w.interfaces++
	return n, w.end()
}

// WritePacket writes a packet.
func (w *Writer) WritePacket(p Packet) error {
	w.begin(blockPacket)
	w.u32(p.Interface)
	w.time(p.Time)
	w.u32(uint32(len(p.Data)))
	w.u32(uint32(p.Length))
	w.block = append(w.block, p.Data...)
	w.pad()
	w.text(optComment, p.Comment)
	if p.Direction != Unknown {
		w.option(optFlags, binary.LittleEndian.AppendUint32(nil, uint32(p.Direction)))
	}
	return w.end()
}

func (w *Writer) u16(n uint16) { w.block = binary.LittleEndian.AppendUint16(w.block, n) }
func (w *Writer) u32(n uint32) { w.block = binary.LittleEndian.AppendUint32(w.block, n) }
func (w *Writer) u64(n uint64) { w.block = binary.LittleEndian.AppendUint64(w.block, n) }

// time appends a time: the upper half of the number first, whatever the byte order.
func (w *Writer) time(t time.Time) {
	n := uint64(t.UnixNano())
	w.u32(uint32(n >> 32))
	w.u32(uint32(n))
}

// pad appends zeros up to a multiple of 4 bytes.
func (w *Writer) pad() { w.block = append(w.block, make([]byte, -len(w.block)&3)...) }

// option appends an option. Its value is at most 65535 bytes long.
func (w *Writer) option(code uint16, value []byte) {
	w.u16(code)
	w.u16(uint16(len(value)))
	w.block = append(w.block, value...)
	w.pad()
}

// text appends an option with a text, unless this is empty. What is no UTF-8 in it is
// replaced; a text that is too long for an option is cut.
func (w *Writer) text(code uint16, text string) {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > math.MaxUint16 {
		text = strings.ToValidUTF8(text[:math.MaxUint16], "")
	}
	if text != "" {
		w.option(code, []byte(text))
	}
}

// begin begins a block. Its length follows in end.
func (w *Writer) begin(kind uint32) {
	w.block = w.block[:0]
	w.u32(kind)
	w.u32(0)
}

// end ends a block, after its last option, and writes it.
func (w *Writer) end() error {
	w.u16(optEnd)
	w.u16(0)
	n := uint32(len(w.block) + 4) // with the length itself, which is also at the end
	binary.LittleEndian.PutUint32(w.block[4:], n)
	w.u32(n)
	_, err := w.out.Write(w.block)
	return err
}
