// Package keyuse finds SAs with the same combined-mode key. Two senders with the same
// key and salt will use a nonce twice. Two packets with one nonce reveal the difference
// of their plaintexts, and allow forgery (RFC 4106 sections 2 and 3.1, RFC 7634 section
// 2).
//
// An [Index] contains no keys: it compares keyed hashes of them.
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

// Most is the maximum length of the list that [Index.Others] returns.
const Most = 4

// A Tag identifies a cipher with a key and salt. Only tags of one Index can be
// compared. The zero Tag means that the key may be used twice.
type Tag [sha256.Size]byte

// An Index has the SAs of a stack by their tags. Use New to make one. It must not be
// used by several goroutines at once.
type Index struct {
	secret [32]byte
	users  map[Tag][]user
}

// A user is an SA with a key.
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

// Tag returns the tag of a cipher and its key, which ends with the salt. It is the zero
// Tag for ciphers that are not combined modes: their IVs are random.
func (x *Index) Tag(enc alg.Enc, key []byte) Tag {
	if info, _ := enc.Info(); !info.AEAD {
		return Tag{}
	}
	wipe.Reserve()
	h := hmac.New(sha256.New, x.secret[:])
	h.Write([]byte{byte(enc)})
	h.Write(key)
	t := Tag(h.Sum(nil))
	wipe.Now(h) // it has a copy of the key
	return t
}

// Add adds an SA. It does nothing for the zero Tag.
func (x *Index) Add(t Tag, id klips.SAID, dir klips.Direction) {
	if t != (Tag{}) {
		x.users[t] = append(x.users[t], user{id, dir})
	}
}

// Remove removes an SA, if it is there.
func (x *Index) Remove(t Tag, id klips.SAID) {
	rest := slices.DeleteFunc(x.users[t], func(u user) bool { return u.id == id })
	if len(rest) == 0 {
		delete(x.users, t)
		return
	}
	x.users[t] = rest
}

// Clear removes all SAs.
func (x *Index) Clear() { clear(x.users) }

// Sender returns the oldest SA for sending with a tag, except for one SA.
func (x *Index) Sender(t Tag, but klips.SAID) (id klips.SAID, ok bool) {
	for _, u := range x.users[t] {
		if u.dir.Sends() && u.id != but {
			return u.id, true
		}
	}
	return klips.SAID{}, false
}

// Rank returns how many SAs with a tag are older than one of them.
func (x *Index) Rank(t Tag, id klips.SAID) int {
	return max(0, slices.IndexFunc(x.users[t], func(u user) bool { return u.id == id }))
}

// Others returns the SAs with a tag, except for one SA: the Most oldest.
func (x *Index) Others(t Tag, but klips.SAID) (ids []klips.SAID) {
	for _, u := range x.users[t] {
		if u.id != but && len(ids) < Most {
			ids = append(ids, u.id)
		}
	}
	return ids
}
