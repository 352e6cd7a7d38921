// Package alg has one row for each algorithm of security associations: its numbers, its
// names here and in the kernel, its sizes and its RFC. All code that parses, checks,
// lists or configures algorithms uses these rows. The algorithms themselves are
// implemented elsewhere.
package alg

import (
	"slices"

	"github.com/klips-go/ipsec/klips/internal/enum"
)

// An Auth is an authentication algorithm, by its number in the PF_KEY SA extension
// (SADB_AALG_*, SADB_X_AALG_*). Its text form is the Word of its row, or its number.
type Auth uint8

// Authentication algorithms.
const (
	AuthNone    Auth = 0
	MD5         Auth = 2   // HMAC-MD5-96, RFC 2403
	SHA1        Auth = 3   // HMAC-SHA-1-96, RFC 2404
	SHA256      Auth = 5   // HMAC-SHA-256-128, RFC 4868
	SHA384      Auth = 6   // HMAC-SHA-384-192, RFC 4868
	SHA512      Auth = 7   // HMAC-SHA-512-256, RFC 4868
	SHA256Trunc Auth = 252 // HMAC-SHA-256-96: Linux before 2.6.33, KLIPS before 3.x
)

// An Enc is an encryption algorithm, by its number in the PF_KEY SA extension
// (SADB_EALG_*, SADB_X_EALG_*). Its text form is the Word of its row, or its number.
type Enc uint8

// Encryption algorithms. The two last are combined modes: they authenticate
// too, take no Auth, and their keys end in [SaltBits] of salt.
const (
	EncNone          Enc = 0
	TripleDES        Enc = 3  // 3DES-CBC, RFC 2451
	Null             Enc = 11 // RFC 2410
	AES              Enc = 12 // AES-CBC, RFC 3602
	AESGCM           Enc = 20 // AES-GCM with 16-byte ICV, RFC 4106
	ChaCha20Poly1305 Enc = 28 // RFC 7634; the number is IKEv2's, KLIPS never had it
)

// A Comp is a compression algorithm, by its number in the PF_KEY SA extension. Its text
// form is the Word of its row, or its number.
type Comp uint8

// Compression algorithms. Only deflate carries packets.
const (
	CompNone Comp = 0
	Deflate  Comp = 2 // RFC 2394
	LZS      Comp = 3 // RFC 2395
)

// SaltBits is the length of the salt at the end of the keys of combined modes (RFC 4106
// section 8.1, RFC 7634 section 2).
const SaltBits = 32

// An Info describes an algorithm. The zero value means an unknown one.
type Info struct {
	Word    string // in messages and JSON: "aes", "hmac-sha2-256"
	Listing string // suffix in listings, with its underscore: "_3DES", "_HMAC_MD5"
	Kernel  string // name in the Linux crypto API; empty: not for stack xfrm
	Title   string // in its RFC: "AES-CBC"
	RFC     int    // number of the RFC about its use in IPsec; 0: there is none
	// Setkey is the name in setkey(8) that FreeBSD, NetBSD and ipsec-tools have. hmac-sha2-256 has
	// an ICV of 128 bits in the kernels of the BSDs, and of 96 bits in Linux.
	Setkey string
	// Wireshark is the name in Wireshark's table of ESP SAs (esp_sa); empty: Wireshark 4.0
	// cannot open its packets.
	Wireshark string
	// Names are those of command lines, in lower case with hyphens. Usage texts have
	// the first, unless Usage is set.
	Names []string
	Usage string

	KeyBits []int // allowed key lengths, in bits, parity and salt included; 0: no key
	Block   int   // cipher block in bytes, 1 for stream modes; the plaintext is padded to it
	IV      int   // bytes of IV in each packet
	ICV     int   // bytes of ICV in each packet
	Hash    int   // bits of the full hash, listed as alen
	AEAD    bool  // a combined mode: no separate authentication algorithm
}

// A list is a table of rows by number, in the order in which usage texts name them.
type list[T ~uint8] []struct {
	id  T
	row Info
}

func (l list[T]) row(id T) (Info, bool) {
	for i := range l {
		if l[i].id == id {
			return l[i].row, true
		}
	}
	return Info{}, false
}

func (l list[T]) ids() (ids []T) {
	for i := range l {
		if l[i].id != 0 {
			ids = append(ids, l[i].id)
		}
	}
	return ids
}

// find returns the first algorithm whose row fits.
func (l list[T]) find(fits func(*Info) bool) (T, bool) {
	for i := range l {
		if fits(&l[i].row) {
			return l[i].id, true
		}
	}
	return 0, false
}

func (l list[T]) named(name string) (T, bool) {
	return l.find(func(r *Info) bool { return slices.Contains(r.Names, name) })
}

// called returns the first algorithm with a name of one kind. It is none if there is none, as for
// the empty name.
func (l list[T]) called(name string, kind func(*Info) string) T {
	id, _ := l.find(func(r *Info) bool { return kind(r) == name && name != "" })
	return id
}

func kernel(r *Info) string { return r.Kernel }
func setkey(r *Info) string { return r.Setkey }

func (l list[T]) text(id T) string {
	r, _ := l.row(id)
	return enum.Text(r.Word, id)
}

func (l list[T]) parse(b []byte) (T, error) {
	return enum.Parse(b, "algorithm", func(word string) (T, bool) {
		return l.find(func(r *Info) bool { return r.Word == word })
	})
}

// Info returns the algorithm's row and whether it is known; AuthNone is.
func (a Auth) Info() (Info, bool) { return auths.row(a) }

// Info returns the algorithm's row and whether it is known. EncNone is known: an ESP SA
// must not use it, other SAs have it.
func (e Enc) Info() (Info, bool) { return encs.row(e) }

// Info returns the algorithm's row and whether it is known; CompNone is.
func (c Comp) Info() (Info, bool) { return comps.row(c) }

// Auths returns the authentication algorithms without AuthNone, in the order of usage
// texts.
func Auths() []Auth { return auths.ids() }

// Encs returns the encryption algorithms without EncNone, in the order of usage texts.
func Encs() []Enc { return encs.ids() }

// Comps returns the compression algorithms without CompNone, in the order of usage
// texts.
func Comps() []Comp { return comps.ids() }

// AuthNamed returns the algorithm with a name of command lines, in lower case with
// hyphens.
func AuthNamed(name string) (Auth, bool) { return auths.named(name) }

// CompNamed returns the algorithm with a name of command lines.
func CompNamed(name string) (Comp, bool) { return comps.named(name) }

// AuthOfKernel returns the algorithm with a name of the Linux crypto API and a length
// of ICV in bits, which distinguishes HMAC-SHA-256 from its shorter form; AuthNone if
// there is none.
func AuthOfKernel(name string, icvBits uint32) Auth {
	a, _ := auths.find(func(r *Info) bool { return r.Kernel == name && name != "" && uint32(8*r.ICV) == icvBits })
	return a
}

// EncOfKernel returns the algorithm with a name of the Linux crypto API; EncNone if there
// is none.
func EncOfKernel(name string) Enc { return encs.called(name, kernel) }

// CompOfKernel returns the algorithm with a name of the Linux crypto API; CompNone if there
// is none.
func CompOfKernel(name string) Comp { return comps.called(name, kernel) }

// EncOfSetkey returns the algorithm with a name of setkey; EncNone if there is none.
func EncOfSetkey(name string) Enc { return encs.called(name, setkey) }

// CompOfSetkey returns the algorithm with a name of setkey; CompNone if there is none.
func CompOfSetkey(name string) Comp { return comps.called(name, setkey) }

func (a Auth) String() string { return auths.text(a) }
func (e Enc) String() string  { return encs.text(e) }
func (c Comp) String() string { return comps.text(c) }

// MarshalText returns the Word of the algorithm's row, or its number.
func (a Auth) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// MarshalText returns the Word of the algorithm's row, or its number.
func (e Enc) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// MarshalText returns the Word of the algorithm's row, or its number.
func (c Comp) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalJSON accepts the text of MarshalText, and a number.
func (a *Auth) UnmarshalJSON(b []byte) (err error) { *a, err = auths.parse(b); return err }

// UnmarshalJSON accepts the text of MarshalText, and a number.
func (e *Enc) UnmarshalJSON(b []byte) (err error) { *e, err = encs.parse(b); return err }

// UnmarshalJSON accepts the text of MarshalText, and a number.
func (c *Comp) UnmarshalJSON(b []byte) (err error) { *c, err = comps.parse(b); return err }
