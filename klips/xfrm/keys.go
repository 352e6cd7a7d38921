package xfrm

import (
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
