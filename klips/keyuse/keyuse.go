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
	"iter"
	"maps"
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
	secret Secret
	users  map[Tag][]User
}

// A Secret is what tags are made with.
type Secret [16]byte

// A User is an SA with a key.
type User struct {
	ID  klips.SAID
	Dir klips.Direction
}

// New returns an empty Index with a random secret.
func New() *Index {
	var s Secret
	rand.Read(s[:]) // never fails
	return With(s)
}

// With returns an empty Index with a secret. Tags of Indexes with one secret can be
// compared.
func With(s Secret) *Index { return &Index{secret: s, users: map[Tag][]User{}} }

// Secret returns the secret.
func (x *Index) Secret() Secret { return x.secret }

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
		x.users[t] = append(x.users[t], User{id, dir})
	}
}

// Remove removes an SA, if it is there.
func (x *Index) Remove(t Tag, id klips.SAID) {
	rest := slices.DeleteFunc(x.users[t], func(u User) bool { return u.ID == id })
	if len(rest) == 0 {
		delete(x.users, t)
		return
	}
	x.users[t] = rest
}

// All yields the tags in no particular order, each with its SAs, the oldest first.
func (x *Index) All() iter.Seq2[Tag, []User] { return maps.All(x.users) }

// Clear removes all SAs.
func (x *Index) Clear() { clear(x.users) }

// Sender returns the oldest SA for sending with a tag, except for one SA.
func (x *Index) Sender(t Tag, but klips.SAID) (id klips.SAID, ok bool) {
	for _, u := range x.users[t] {
		if u.Dir.Sends() && u.ID != but {
			return u.ID, true
		}
	}
	return klips.SAID{}, false
}

// Rank returns how many SAs with a tag are older than one of them.
func (x *Index) Rank(t Tag, id klips.SAID) int {
	return max(0, slices.IndexFunc(x.users[t], func(u User) bool { return u.ID == id }))
}

// Others returns the SAs with a tag, except for one SA: the Most oldest.
func (x *Index) Others(t Tag, but klips.SAID) (ids []klips.SAID) {
	for _, u := range x.users[t] {
		if u.ID != but && len(ids) < Most {
			ids = append(ids, u.ID)
		}
	}
	return ids
}
