package marks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"os"
)

// The format of the file; numbers are big-endian:
//
//	header   "klipsmk1", secret (32 bytes), 4 zero bytes, CRC-32 of all before
//	record   key (16 bytes), sent, received, used (8 bytes each: seconds since 1970),
//	         kind (4 bytes), CRC-32 of all before
//
// Records of other kinds have the key zero. A floor has its number in the field sent.
// An opened record has the first 8 bytes of a hash of the boot ID in the field used.
const (
	recordLen = 48
	magic     = "klipsmk1"

	kindMark   = 1
	kindFloor  = 2
	kindOpened = 3 // numbers may be used before they are certain to be in the file
	kindClosed = 4 // no longer

	// maxFile is larger than any valid file, in bytes.
	maxFile = 64 << 20
)

// seal appends the checksum of b.
func seal(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// sealed reports whether the checksum is right.
func sealed(b []byte) bool {
	n := len(b) - 4
	return crc32.ChecksumIEEE(b[:n]) == binary.BigEndian.Uint32(b[n:])
}

func header(secret [sha256.Size]byte) []byte {
	b := append(make([]byte, 0, recordLen), magic...)
	b = append(b, secret[:]...)
	return seal(append(b, 0, 0, 0, 0))
}

func encode(k Key, sent, received, used uint64, kind uint32) []byte {
	b := append(make([]byte, 0, recordLen), k[:]...)
	b = binary.BigEndian.AppendUint64(b, sent)
	b = binary.BigEndian.AppendUint64(b, received)
	b = binary.BigEndian.AppendUint64(b, used)
	return seal(binary.BigEndian.AppendUint32(b, kind))
}

func record(k Key, e *entry) []byte {
	return encode(k, e.Sent, e.Received, uint64(e.used), kindMark)
}

func (f *File) floorRecord() []byte { return encode(Key{}, f.floor, 0, 0, kindFloor) }
func (f *File) opening() []byte     { return encode(Key{}, 0, 0, bootID(), kindOpened) }
func (f *File) closing() []byte     { return encode(Key{}, 0, 0, 0, kindClosed) }

// contents are the contents of a file.
type contents struct {
	secret    [sha256.Size]byte
	marks     table
	floor     uint64
	opened    bool
	boot      uint64 // hash of the boot ID when it was opened
	good, bad int    // records
}

// crashed reports whether numbers were used that may be missing from the file, because
// the machine has restarted since.
func (c *contents) crashed(boot uint64) bool { return c.opened && (boot == 0 || c.boot != boot) }

// parse parses a file. ok is false for a foreign one. Damage after the header is not an
// error: a damaged record is counted and ignored.
func parse(b []byte) (c *contents, ok bool) {
	if len(b) < recordLen || len(b) > maxFile || !bytes.HasPrefix(b, []byte(magic)) || !sealed(b[:recordLen]) {
		return nil, false
	}
	c = &contents{secret: [sha256.Size]byte(b[len(magic):]), marks: newTable(b)}
	for i := 1; i*recordLen < len(b); i++ {
		r := b[i*recordLen : min((i+1)*recordLen, len(b))]
		if len(r) < recordLen || !sealed(r) || !c.take(i, r) {
			c.bad++
			continue
		}
		c.good++
	}
	return c, true
}

// decode returns the entry in a record; what the file has is certain to be in it.
func decode(b []byte) *entry {
	m := Mark{binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])}
	return &entry{Mark: m, synced: m.Sent, used: int64(binary.BigEndian.Uint64(b[32:]))}
}

// take parses one record, at a position in the file.
func (c *contents) take(position int, b []byte) bool {
	k := Key(b)
	sent, used := binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[32:])
	switch kind := binary.BigEndian.Uint32(b[40:]); {
	case kind == kindMark && k != Key{}:
		c.marks.enter(position)
	case kind == kindFloor:
		c.floor = sent
	case kind == kindOpened:
		c.opened, c.boot = true, used
	case kind == kindClosed:
		c.opened = false
	default:
		return false
	}
	return true
}

// bootID differs after each start of the machine; 0 if unknown.
var bootID = func() uint64 {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(b) == 0 {
		return 0
	}
	h := sha256.Sum256(b)
	return binary.BigEndian.Uint64(h[:])
}
