// Package keyuse finds the SAs that have one key of a combined mode. Two senders
// with one such key and salt sooner or later use one nonce twice. Whoever sees two
// packets with one nonce learns the difference of their plaintexts, and can forge
// packets (RFC 4106 sections 2 and 3.1, RFC 7634 section 2).
//
// An [Index] never holds keys: it compares keyed hashes of them.
package keyuse

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/internal/wipe"
)

// Most is the length of the longest list that [Index.Others] returns.
const Most = 4

// A Tag stands for one cipher with one key and salt. Only tags of one Index can be
// compared. The zero Tag stands for what may be used twice.
type Tag [sha256.Size]byte

// An Index is the SAs of a stack by their tags. Use New to make one. It is not for
// several goroutines.
type Index struct {
	secret [32]byte
	users  map[Tag][]user
}

// A user is an SA that has a key, oldest first.
type user struct {
	id  klips.SAID
	dir klips.Direction
}

// New returns an empty Index with a random secret.
func New() *Index {
	x := &Index{users: map[Tag][]user{}}
	rand.Read(x.secret[:]) // never fails
	return x
}

// Tag returns the tag of a cipher and its key, which ends with the salt. It is the
// zero Tag for ciphers that are no combined modes: their IVs are random.
func (x *Index) Tag(enc alg.Enc, key []byte) Tag {
	if info, _ := enc.Info(); !info.AEAD {
		return Tag{}
	}
	h := hmac.New(sha256.New, x.secret[:])
	h.Write([]byte{byte(enc)})
	h.Write(key)
	t := Tag(h.Sum(nil))
	wipe.Now(h) // it has a copy of the key
	return t
}

// Add enters an SA. It does nothing for the zero Tag.
func (x *Index) Add(t Tag, id klips.SAID, dir klips.Direction) {
	if t != (Tag{}) {
		x.users[t] = append(x.users[t], user{id, dir})
	}
}

// Remove takes an SA out again; there may be none.
func (x *Index) Remove(t Tag, id klips.SAID) {
	rest := slices.DeleteFunc(x.users[t], func(u user) bool { return u.id == id })
	if len(rest) == 0 {
		delete(x.users, t)
		return
	}
	x.users[t] = rest
}

// Clear takes all SAs out.
func (x *Index) Clear() { clear(x.users) }

// Sender returns the oldest outbound SA with a tag, but for one SA.
func (x *Index) Sender(t Tag, but klips.SAID) (id klips.SAID, ok bool) {
	for _, u := range x.users[t] {
		if u.dir == klips.Outbound && u.id != but {
			return u.id, true
		}
	}
	return klips.SAID{}, false
}

// Rank returns how many SAs with a tag are older than one of them.
func (x *Index) Rank(t Tag, id klips.SAID) int {
	return max(0, slices.IndexFunc(x.users[t], func(u user) bool { return u.id == id }))
}

// Others returns the SAs with a tag, but for one SA: the Most oldest.
func (x *Index) Others(t Tag, but klips.SAID) (ids []klips.SAID) {
	for _, u := range x.users[t] {
		if u.id != but && len(ids) < Most {
			ids = append(ids, u.id)
		}
	}
	return ids
}
