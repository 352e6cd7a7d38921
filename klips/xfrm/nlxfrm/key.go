package nlxfrm

import (
	"bytes"
	"fmt"
	"io"
)

// A Key is a secret of whole bytes. Package fmt, JSON and other text encodings do not
// print it.
type Key []byte

const hidden = "(key)"

// Format writes a placeholder for every verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, hidden) }

// MarshalText returns the same placeholder.
func (Key) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Clear overwrites the key with zeros.
func (k Key) Clear() { clear(k) }

// An Algorithm is a cipher by the kernel's name, as in "cbc(aes)", with its key.
type Algorithm struct { // struct xfrm_algo
	Name string // at most 63 bytes
	Key  Key
}

// An AuthAlgorithm is a hash by the kernel's name, as in "hmac(sha256)". The truncation
// is always sent: the kernel's default for hmac(sha256) is 96 bits, against RFC 4868's
// 128.
type AuthAlgorithm struct { // struct xfrm_algo_auth
	Name         string // at most 63 bytes
	TruncateBits uint32 // length of the ICV; 0: the kernel's default
	Key          Key
}

// An AEADAlgorithm is a combined-mode cipher by the kernel's name, as in
// "rfc4106(gcm(aes))". The key ends with the salt.
type AEADAlgorithm struct { // struct xfrm_algo_aead
	Name    string // at most 63 bytes
	ICVBits uint32
	Key     Key
}

// appendAlg appends an attribute of one of the three structs: a name, the key's
// length in bits, another number if the struct has one, and the key.
func appendAlg(b []byte, typ uint16, name string, key Key, bits ...uint32) ([]byte, error) {
	if name == "" || len(name) >= algNameLen || bytes.IndexByte([]byte(name), 0) >= 0 {
		return b, fmt.Errorf("algorithm %q: the name must have 1 to %d bytes", name, algNameLen-1)
	}
	if len(key) > maxKeyLen {
		return b, fmt.Errorf("algorithm %q: key of %d bytes, at most %d", name, len(key), maxKeyLen)
	}
	head := algHeadLen + 4*len(bits)
	b, p := appendAttr(b, typ, head+len(key))
	copy(p, name)
	native.PutUint32(p[algNameLen:], uint32(len(key))*8)
	for i, n := range bits {
		native.PutUint32(p[algHeadLen+4*i:], n)
	}
	copy(p[head:], key)
	return b, nil
}

// maxKeyLen keeps attributes well below the 64 KB of their length field; the kernel
// accepts at most 512 bytes.
const maxKeyLen = 4096

// parseAlg reads such a struct, with or without the other number. The key is a copy.
func parseAlg(typ uint16, p []byte, head int) (name string, bits uint32, key Key, err error) {
	if err := want(typ, p, head); err != nil {
		return "", 0, nil, err
	}
	n := uint64(native.Uint32(p[algNameLen:]))
	if n = (n + 7) / 8; n > uint64(len(p)-head) {
		return "", 0, nil, malformed("attribute %d has a key of %d bytes, %d are there", typ, n, len(p)-head)
	}
	if head > algHeadLen {
		bits = native.Uint32(p[algHeadLen:])
	}
	raw, _, _ := bytes.Cut(p[:algNameLen], []byte{0})
	return string(raw), bits, append(Key(nil), p[head:head+int(n)]...), nil
}
