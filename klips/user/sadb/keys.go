package sadb

import (
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/keyuse"
)

// tag returns the tag of the key that spec gives an SA. A tun SA has none,
// although KLIPS takes one.
func (db *DB) tag(spec *klips.SASpec) keyuse.Tag {
	if spec.ID.Proto != klips.ProtoESP {
		return keyuse.Tag{}
	}
	return db.keys.Tag(spec.Enc, spec.EncKey)
}

// checkKeyLocked refuses to let an SA send with a key with which another one sends.
func (db *DB) checkKeyLocked(spec *klips.SASpec, tag keyuse.Tag, dir klips.Direction) error {
	if dir != klips.Outbound || spec.ReuseKey {
		return nil
	}
	if other, ok := db.keys.Sender(tag, spec.ID); ok {
		return &klips.OpError{Op: "add SA", Object: spec.ID.String(), Err: syscall.EKEYREJECTED, Fault: klips.FaultKeyUsed, Other: other}
	}
	return nil
}

// SameKey returns the oldest other SAs with the SA's key of a combined mode, as
// [klips.SA] has them. It locks the DB.
func (db *DB) SameKey(sa *SA) []klips.SAID {
	if sa.tag == (keyuse.Tag{}) {
		return nil
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.keys.Others(sa.tag, sa.ID)
}
