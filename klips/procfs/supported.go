package procfs

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// An Algorithm is a line of pf_key_supported: an algorithm that KLIPS has for SAs
// of a protocol.
type Algorithm struct {
	Proto klips.Proto
	// Auth: it authenticates. Otherwise it encrypts or, for comp, compresses. For tun,
	// ID is one of the Tunnel constants.
	Auth             bool
	ID               uint8 // of package alg
	IV               int   // in bits
	MinBits, MaxBits int   // of keys; 3DES has 168 without parity
	Name             string
}

// IDs of tun: the inner and outer IP version. A KLIPS without IPv6 has only the first.
const (
	Tunnel4in4 = 1
	Tunnel6in4 = 2
	Tunnel4in6 = 3
	Tunnel6in6 = 4
)

// Kinds of algorithms have the numbers of the extensions that list them
// (SADB_EXT_SUPPORTED_AUTH, SADB_EXT_SUPPORTED_ENCRYPT).
const (
	kindAuth    = uint64(pfkey.ExtSupportedAuth)
	kindEncrypt = uint64(pfkey.ExtSupportedEnc)
)

// ParseSupported parses pf_key_supported. Lines that do not begin with a blank are
// headings. An algorithm can have several lines. Lines of SA types without a protocol
// are left out. If lines cannot be parsed, the error is an *[UnreadError], returned
// with the rest.
func ParseSupported(r io.Reader) ([]Algorithm, error) {
	var list []Algorithm
	err := readLines(r, "pf_key_supported", func(line []byte) error {
		if line[0] != ' ' && line[0] != '\t' {
			return nil
		}
		f := bytes.Fields(line)
		if len(f) < 6 {
			return errShort
		}
		var n [6]uint64
		for i := range n {
			var err error
			if n[i], err = strconv.ParseUint(string(f[i]), 10, 16); err != nil {
				return fmt.Errorf("%s is not a number of 16 bits", quote(f[i]))
			}
		}
		proto, ok := pfkey.SAType(n[0]).Proto()
		if n[0] > 0xff || !ok {
			return nil
		}
		if n[1] != kindAuth && n[1] != kindEncrypt || n[2] > 0xff {
			return fmt.Errorf("%s %s is not an algorithm", quote(f[1]), quote(f[2]))
		}
		list = append(list, Algorithm{
			Proto: proto, Auth: n[1] == kindAuth, ID: uint8(n[2]), IV: int(n[3]), MinBits: int(n[4]), MaxBits: int(n[5]),
			Name: string(bytes.Join(f[6:], []byte(" "))),
		})
		return nil
	})
	return list, err
}

// WriteSupported writes pf_key_supported with its heading.
func WriteSupported(w io.Writer, list []Algorithm) error {
	if _, err := io.WriteString(w, "satype exttype alg_id ivlen minbits maxbits name\n"); err != nil {
		return err
	}
	return writeLines(w, list, func(b []byte, a *Algorithm) []byte {
		kind := kindEncrypt
		if a.Auth {
			kind = kindAuth
		}
		return fmt.Appendf(b, "    %2d      %2d     %2d   %3d     %3d     %3d %20s\n",
			pfkey.SATypeOf(a.Proto), kind, a.ID, a.IV, a.MinBits, a.MaxBits, a.Name)
	})
}
