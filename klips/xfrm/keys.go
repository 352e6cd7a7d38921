package xfrm

import (
	"bytes"
	"context"
	"errors"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/keyuse"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// tag returns the tag of a state's key. It does not depend on the ICV's length: nonces
// are the same for all lengths.
func (t *tables) tag(s *nlxfrm.State) keyuse.Tag {
	if s == nil || s.AEAD == nil {
		return keyuse.Tag{}
	}
	transform, _, _ := algorithms(s)
	return t.keys.Tag(transform.Enc, s.AEAD.Key)
}

// readKeys enters the keys of the kernel's states: first those of our SAs, oldest
// first, and then those of other programs.
func (t *tables) readKeys(d *dump, o *objects) {
	for _, s := range t.byAge() {
		s.tag = t.tag(s.state)
		t.keys.Add(s.tag, s.id, s.dir)
		t.own.Add(s.tag, s.id, s.dir)
	}
	for _, s := range d.states {
		if o.states[s.ID] != s {
			id := said(s)
			t.keys.Add(t.tag(s), id, t.direction(id.Dst, s.Src))
		}
	}
}

// takeKey gives a new SA its tag, and refuses a key that another SA for sending uses.
func (t *tables) takeKey(s *sa) error {
	s.tag = t.tag(s.state)
	if !s.dir.Sends() || s.reuseKey {
		return nil
	}
	if other, ok := t.keys.Sender(s.tag, s.id); ok {
		return &klips.OpError{Op: "add SA", Object: s.id.String(), Err: syscall.EKEYREJECTED, Fault: klips.FaultKeyUsed, Other: other}
	}
	return nil
}

// ReadKeys returns the keys of an SA that was made by commands. A locked-down kernel shows
// zeros instead of keys (LOCKDOWN_XFRM_SECRET): EACCES.
func (s *Stack) ReadKeys(ctx context.Context, id klips.SAID) (klips.Keys, error) {
	const op = "get keys"
	k, err := s.readKeys(ctx, id)
	if err != nil {
		k.Clear()
		return klips.Keys{}, about(err, op, id.String())
	}
	for _, key := range [][]byte{k.AuthKey, k.EncKey} {
		if len(key) > 0 && bytes.Count(key, []byte{0}) == len(key) {
			k.Clear()
			return klips.Keys{}, refuse(op, id.String(), syscall.EACCES, "this kernel shows zeros instead of keys, as with lockdown=confidentiality")
		}
	}
	dir, _, err := s.Marks(ctx)
	k.Marked = dir != "" && err == nil
	return k, nil
}

func (s *Stack) readKeys(ctx context.Context, id klips.SAID) (k klips.Keys, err error) {
	if _, err := s.GetSA(ctx, id); err != nil || id.Proto == klips.ProtoTun {
		return k, err
	}
	st, err := readState(ctx, s.xfrm, id)
	switch {
	case errors.Is(err, syscall.ESRCH):
		return k, refuse("", "", syscall.ESRCH, "")
	case err != nil:
		return k, wrapError(err, nil)
	}
	defer st.ClearKeys()
	if st.Auth != nil {
		k.AuthKey = bytes.Clone(st.Auth.Key)
	}
	switch {
	case st.AEAD != nil:
		k.EncKey = bytes.Clone(st.AEAD.Key)
	case st.Crypt != nil:
		k.EncKey = bytes.Clone(st.Crypt.Key)
	}
	return k, nil
}
