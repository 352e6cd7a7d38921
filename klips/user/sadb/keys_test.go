package sadb

import (
	"bytes"
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

func gcmSpec(spi klips.SPI, key byte) *klips.SASpec {
	s := updateSpec(spi, key)
	s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.AESGCM, bytes.Repeat([]byte{key}, 20), alg.AuthNone, nil
	return s
}

// TestKeyUsed gives SAs each other's keys in all ways in which an SA gets a key. Adding
// is tested in the contract of all stacks.
func TestKeyUsed(t *testing.T) {
	db := New()
	add := func(s *klips.SASpec, dir klips.Direction) {
		t.Helper()
		if _, err := db.Add(s, dir, 1, nil); err != nil {
			t.Fatalf("Add %v: %v", s.ID, err)
		}
	}
	update := func(s *klips.SASpec, dir klips.Direction, refused bool) {
		t.Helper()
		_, sa, err := db.Update(s, dir, nil)
		var op *klips.OpError
		switch {
		case !refused && err != nil:
			t.Errorf("Update %v: %v", s.ID, err)
		case refused && (!errors.Is(err, syscall.EKEYREJECTED) || !errors.As(err, &op) || op.Fault != klips.FaultKeyUsed || sa != nil):
			t.Errorf("Update %v = %v, want EKEYREJECTED", s.ID, err)
		}
	}
	add(gcmSpec(0x100, 1), klips.Outbound)
	add(gcmSpec(0x101, 2), klips.Outbound)

	// An SA may keep its own key, or take an unused one.
	update(gcmSpec(0x100, 1), klips.Outbound, false)
	update(gcmSpec(0x100, 2), klips.Outbound, true)
	update(gcmSpec(0x100, 3), klips.Outbound, false)
	update(gcmSpec(0x101, 1), klips.Outbound, false) // the first SA no longer has it
	update(gcmSpec(0x100, 2), klips.Outbound, false)

	// A larval SA gets its key in an update.
	larval, err := db.Reserve(klips.SAID{Dst: updateDst, Proto: klips.ProtoESP}, updateSrc, 0x200, 0x200, klips.Outbound, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	update(gcmSpec(larval.ID.SPI, 1), klips.Outbound, true)
	update(gcmSpec(larval.ID.SPI, 4), klips.Outbound, false)

	// An inbound SA that becomes outbound begins to send.
	add(gcmSpec(0x300, 1), klips.Inbound)
	update(gcmSpec(0x300, 1), klips.Inbound, false)
	update(gcmSpec(0x300, 1), klips.Outbound, true)

	// A key reuse that was allowed stays allowed, and still counts for other SAs.
	reuse := gcmSpec(0x301, 1)
	reuse.ReuseKey = true
	add(reuse, klips.Outbound)
	update(gcmSpec(0x301, 1), klips.Outbound, false)
	update(gcmSpec(0x101, 5), klips.Outbound, false)
	update(gcmSpec(0x100, 1), klips.Outbound, true)

	// New ports are no new use of the key.
	if _, _, err := db.SetPorts(reuse.ID, 1, 2); err != nil {
		t.Fatal(err)
	}
	update(gcmSpec(0x100, 1), klips.Outbound, true)
	if _, err := db.Delete(reuse.ID); err != nil {
		t.Fatal(err)
	}
	update(gcmSpec(0x100, 1), klips.Outbound, false)

	in, want := db.Lookup(gcmSpec(0x300, 0).ID), []klips.SAID{gcmSpec(0x100, 0).ID}
	if got := db.SameKey(in); !slices.Equal(got, want) {
		t.Errorf("SameKey(%v) = %v, want %v", in.ID, got, want)
	}

	// CBC keys may be used twice: their IVs are random and unpredictable. A tun SA does
	// not use the key that KLIPS accepts for it.
	add(updateSpec(0x400, 1), klips.Outbound)
	add(updateSpec(0x401, 1), klips.Outbound)
	tun := gcmSpec(0x402, 1)
	tun.ID.Proto = klips.ProtoTun
	add(tun, klips.Outbound)

	// A refused SA does not exist, and its SAref is free.
	n := db.Len()
	named := gcmSpec(0x500, 1)
	named.Ref = 77
	if _, err := db.Add(named, klips.Outbound, 1, nil); !errors.Is(err, syscall.EKEYREJECTED) || db.Len() != n {
		t.Errorf("Add = %v, %d SAs, want EKEYREJECTED and %d", err, db.Len(), n)
	}
	other := gcmSpec(0x501, 9)
	other.Ref = 77
	add(other, klips.Outbound)

	db.Flush()
	add(gcmSpec(0x600, 1), klips.Outbound)
}
