package sadb

import (
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/keyuse"
)

// tag returns the tag of the key in spec. A tun SA has none, although KLIPS accepts a
// key for it.
func (db *DB) tag(spec *klips.SASpec) keyuse.Tag {
	if spec.ID.Proto != klips.ProtoESP {
		return keyuse.Tag{}
	}
	return db.keys.Tag(spec.Enc, spec.EncKey)
}

// checkKeyLocked refuses an SA for sending if another such SA uses its key.
func (db *DB) checkKeyLocked(spec *klips.SASpec, tag keyuse.Tag, dir klips.Direction) error {
	if !dir.Sends() || spec.ReuseKey {
		return nil
	}
	if other, ok := db.keys.Sender(tag, spec.ID); ok {
		return &klips.OpError{Op: "add SA", Object: spec.ID.String(), Err: syscall.EKEYREJECTED, Fault: klips.FaultKeyUsed, Other: other}
	}
	return nil
}

// SameKey returns the oldest other SAs with the SA's combined-mode key, for [klips.SA].
// It locks the DB.
func (db *DB) SameKey(sa *SA) []klips.SAID {
	if sa.tag == (keyuse.Tag{}) {
		return nil
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.keys.Others(sa.tag, sa.ID)
}
