package klips

import (
	"context"
	"syscall"
)

// Keys are the keys of one SA, as in [SASpec]: in combined modes EncKey ends with the salt.
// Both are empty for an SA without keys.
type Keys struct {
	AuthKey, EncKey []byte
	// Marked: the stack records the sequence numbers that are sent with these keys (package
	// marks), so that an SA that is made again with them repeats no number. Without that,
	// such an SA begins again, which must not happen with a combined mode (RFC 4106
	// section 2).
	Marked bool
}

// Clear overwrites the keys with zeros and drops them.
func (k *Keys) Clear() {
	clear(k.AuthKey)
	clear(k.EncKey)
	k.AuthKey, k.EncKey = nil, nil
}

// A KeyReader is a Stack that can return the keys of its SAs. This is a request of its own,
// for one SA: no listing has keys. A classic KLIPS kernel returns none.
type KeyReader interface {
	// ReadKeys returns copies of the keys of an SA, which the caller clears. ESRCH: it does
	// not exist. EPERM: this user must not learn keys. EACCES: the stack shows none.
	ReadKeys(ctx context.Context, id SAID) (Keys, error)
}

// ReadKeys returns the keys of an SA of any stack. EOPNOTSUPP: the stack is no [KeyReader].
func ReadKeys(ctx context.Context, s Stack, id SAID) (Keys, error) {
	if r, ok := s.(KeyReader); ok {
		return r.ReadKeys(ctx, id)
	}
	return Keys{}, NoKeys(id)
}

// NoKeys returns the error of a stack that gives no keys: EOPNOTSUPP in an *[OpError].
func NoKeys(id SAID) error {
	return &OpError{Op: "get keys", Object: id.String(), Err: syscall.EOPNOTSUPP}
}
