// Package derive derives the keys of security associations from one master key, and
// fingerprints from keys.
//
// The function for keys is HKDF with SHA-256 (RFC 5869). Its info distinguishes all keys: those of
// the two directions, of each protocol, of encryption and authentication, and of each
// epoch. Both ends derive the same keys, because nothing in it depends on which end a host
// is.
package derive

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/klips-go/ipsec/klips"
)

// MinMaster and MaxMaster are the limits of the length of a master key, in bytes.
const (
	MinMaster = 32
	MaxMaster = 64
)

// salt separates these keys from others that are derived from the same secret.
const salt = "ipsec-klips master key 1"

// An SA is one SA of a connection.
type SA struct {
	Proto klips.Proto // ESP or AH
	Conn  string      // the name of the connection, the same on both ends
	To    string      // left or right: the end that the SA goes to
	SPI   klips.SPI
	Epoch uint32
}

// Keys returns the keys for encryption and authentication with the given lengths in bytes,
// at most 8160; a key of length 0 is nil. The caller owns them. master is not kept.
func (s SA) Keys(master []byte, encSize, authSize int) (enc, auth []byte, err error) {
	enc, encErr := s.key(master, "enc", encSize)
	auth, authErr := s.key(master, "auth", authSize)
	if err := errors.Join(encErr, authErr); err != nil {
		clear(enc)
		clear(auth)
		return nil, nil, err
	}
	return enc, auth, nil
}

func (s SA) key(master []byte, use string, size int) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	return hkdf.Key(sha256.New, master, []byte(salt), s.info(use), size)
}

// info returns the input of HKDF with this name: six fields, each after its length in two
// bytes. All numbers are big-endian.
func (s SA) info(use string) string {
	var b []byte
	for _, field := range [...]string{s.Proto.String(), use, s.Conn, s.To, number(uint32(s.SPI)), number(s.Epoch)} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
		b = append(b, field...)
	}
	return string(b)
}

func number(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }
