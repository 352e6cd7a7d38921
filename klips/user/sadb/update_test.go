package sadb

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

var (
	updateDst = netip.MustParseAddr("192.0.2.2")
	updateSrc = netip.MustParseAddr("192.0.2.1")
)

func updateSpec(spi klips.SPI, key byte) *klips.SASpec {
	return &klips.SASpec{
		ID: klips.SAID{Dst: updateDst, SPI: spi, Proto: klips.ProtoESP}, Src: updateSrc, Window: 64,
		Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1},
		EncKey:    bytes.Repeat([]byte{key}, 16), AuthKey: bytes.Repeat([]byte{key}, 20),
	}
}

func TestReserve(t *testing.T) {
	db := New()
	id := klips.SAID{Dst: updateDst, Proto: klips.ProtoAH}
	// All SPIs except one are taken; that one is found.
	for spi := klips.SPI(0x1000); spi < 0x2000; spi++ {
		if spi == 0x1777 {
			continue
		}
		s := updateSpec(spi, 1)
		s.ID.Proto, s.Enc, s.EncKey = klips.ProtoAH, 0, nil
		if _, err := db.Add(s, klips.Outbound, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	sa, err := db.Reserve(id, updateSrc, 0x1000, 0x1fff, klips.Inbound, 7, nil)
	if err != nil || sa.ID.SPI != 0x1777 || sa.State() != klips.Larval || sa.Dir != klips.Inbound || sa.Added != 7 || db.Lookup(sa.ID) != sa {
		t.Fatalf("Reserve = %+v, %v", sa, err)
	}
	if _, err := db.Reserve(id, updateSrc, 0x1000, 0x1fff, klips.Inbound, 7, nil); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("Reserve of a full range: %v", err)
	}
	if sa, err := db.Reserve(id, updateSrc, 0x100, 0xffffffff, klips.Inbound, 7, nil); err != nil || sa.ID.SPI < 0x100 {
		t.Errorf("Reserve of all = %v, %v", sa, err)
	}
	boom := errors.New("boom")
	n := db.Len()
	if _, err := db.Reserve(id, updateSrc, 0x100, 0x200, klips.Inbound, 7, func(*SA) error { return boom }); !errors.Is(err, boom) || db.Len() != n {
		t.Errorf("with init that fails: %v, %d SAs", err, db.Len()-n)
	}
	for _, tt := range []struct {
		id        klips.SAID
		low, high klips.SPI
		want      error
	}{
		{id, 0x200, 0x1ff, syscall.EINVAL},
		{id, 0xff, 0x200, syscall.EEXIST},
		{klips.SAID{Dst: updateDst, Proto: klips.ProtoInt}, 0x200, 0x300, syscall.EINVAL},
		{klips.SAID{Proto: klips.ProtoESP}, 0x200, 0x300, syscall.EINVAL},
	} {
		if _, err := db.Reserve(tt.id, updateSrc, tt.low, tt.high, klips.Outbound, 1, nil); !errors.Is(err, tt.want) {
			t.Errorf("Reserve(%v, %#x, %#x): %v, want %v", tt.id, tt.low, tt.high, err, tt.want)
		}
	}
}

func TestUpdate(t *testing.T) {
	db := New()
	if _, _, err := db.Update(updateSpec(0x1000, 1), klips.Outbound, nil); !errors.Is(err, syscall.ENOENT) {
		t.Fatalf("Update of nothing: %v", err)
	}
	first := updateSpec(0x1000, 1)
	first.RefHim, first.OutIf, first.NATT = 5, 49153, klips.NATT{Type: klips.NATTNonESP, SPort: 1, DPort: 2}
	sa, err := db.Add(first, klips.Outbound, 7, nil)
	if err != nil {
		t.Fatal(err)
	}
	sa.Count(100, 8)
	sa.Seq.Store(9)
	if _, _, err := db.Update(&klips.SASpec{ID: first.ID, Transform: first.Transform}, klips.Outbound, nil); !errors.Is(err, syscall.EINVAL) || db.Lookup(first.ID) != sa {
		t.Errorf("Update without keys: %v", err)
	}
	boom := errors.New("boom")
	if _, _, err := db.Update(updateSpec(0x1000, 2), klips.Outbound, func(*SA) error { return boom }); !errors.Is(err, boom) || db.Lookup(first.ID) != sa {
		t.Errorf("with init that fails: %v", err)
	}

	old, upd, err := db.Update(updateSpec(0x1000, 2), klips.Inbound, nil)
	if err != nil || old != sa || db.Lookup(first.ID) != upd || db.Len() != 1 {
		t.Fatalf("Update = %p, %p, %v", old, upd, err)
	}
	if upd.Added != 7 || upd.Ref != sa.Ref || upd.RefHim != 5 || upd.OutIf != 49153 || upd.NATT != first.NATT || upd.Dir != klips.Inbound {
		t.Errorf("not kept: %+v", upd.Fixed)
	}
	if upd.Seq.Load() != 0 || upd.Bytes.Load() != 0 {
		t.Errorf("with other keys it goes on with seq %d, %d bytes", upd.Seq.Load(), upd.Bytes.Load())
	}
	// Packets that hold the old SA may use it until it is retired.
	if ok := old.Keys(func(_, enc []byte) {
		if enc[0] != 1 {
			t.Errorf("the old SA has key %x", enc)
		}
	}); !ok || old.State() != klips.Mature {
		t.Errorf("the old SA is %v", old.State())
	}
	old.Retire()
	if old.Keys(func(_, _ []byte) {}) || old.State() != klips.Dead || upd.State() != klips.Mature {
		t.Errorf("retired, the old SA is %v and the new one %v", old.State(), upd.State())
	}
	if _, err := db.DeleteSA(old); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("DeleteSA of the old one: %v", err)
	}

	// With the same keys, both SAs share their sequence numbers.
	upd.Seq.Store(20)
	old, again, err := db.Update(updateSpec(0x1000, 2), klips.Inbound, nil)
	if err != nil || again.Seq.Add(1) != 21 || old.Seq.Add(1) != 22 {
		t.Errorf("with the same keys: seq %d, %d, %v", again.Seq.Load(), old.Seq.Load(), err)
	}
	// A window of another size: neither numbers that the old one received nor numbers
	// that it missed are accepted.
	for seq := uint64(90); seq <= 100; seq += 2 {
		again.Replay.Update(seq)
	}
	wide := updateSpec(0x1000, 2)
	wide.Window = 1024
	if _, again, err = db.Update(wide, klips.Inbound, nil); err != nil || again.Replay.Size() != 1024 {
		t.Fatalf("window %d, %v", again.Replay.Size(), err)
	}
	for seq := uint64(1); seq <= 100; seq++ {
		if again.Replay.Check(seq) {
			t.Errorf("number %d would be taken", seq)
		}
	}
	if !again.Replay.Check(101) || again.Seq.Load() != 22 {
		t.Errorf("number 101 would not be taken; seq %d", again.Seq.Load())
	}

	before, after, err := db.SetPorts(first.ID, 77, 88)
	if err != nil || after.NATT != (klips.NATT{Type: klips.NATTNonESP, SPort: 77, DPort: 88}) || before.NATT != first.NATT || before.Live != after.Live {
		t.Errorf("SetPorts = %+v, %+v, %v", before.NATT, after.NATT, err)
	}
	if _, err := db.Delete(first.ID); err != nil || before.State() != klips.Dead {
		t.Errorf("deleted, the SA with other ports is %v, %v", before.State(), err)
	}
}

// Readers always find the old SA or the new one, whole groups, and keys of one SA.
func TestUpdateConcurrently(t *testing.T) {
	db := New()
	tun := &klips.SASpec{ID: klips.SAID{Dst: updateDst, SPI: 0x1000, Proto: klips.ProtoTun}, Src: updateSrc}
	for _, s := range []*klips.SASpec{tun, updateSpec(0x1001, 0), updateSpec(0x1002, 0)} {
		if _, err := db.Add(s, klips.Outbound, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	ids := []klips.SAID{tun.ID, updateSpec(0x1001, 0).ID, updateSpec(0x1002, 0).ID}
	if err := db.Group(ids); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				for i, id := range ids {
					sa := db.Lookup(id)
					if sa == nil {
						t.Errorf("%v is not there", id)
						return
					}
					chain, head := sa.Snapshot()
					if len(chain) != len(ids)-i || head != (i == 0) {
						t.Errorf("the group of %v has %d more members, head %v", id, len(chain), head)
						return
					}
					for j, m := range chain {
						if m.ID != ids[i+j] {
							t.Errorf("member %d of %v is %v", j, id, m.ID)
						}
						m.Keys(func(auth, enc []byte) {
							if len(auth) > 0 && auth[0] != enc[0] {
								t.Errorf("keys %x and %x", auth[0], enc[0])
							}
						})
					}
				}
			}
		})
	}
	var retired []*SA
	for i := range 3000 {
		s := updateSpec(0x1001+klips.SPI(i%2), byte(i))
		if i%3 == 0 {
			s = tun
		}
		old, _, err := db.Update(s, klips.Outbound, nil)
		if err != nil {
			t.Fatal(err)
		}
		retired = append(retired, old)
		if i%5 == 0 {
			if _, _, err := db.SetPorts(s.ID, uint16(i), 2); err != nil {
				t.Fatal(err)
			}
		}
		if i >= 100 {
			retired[i-100].Retire()
		}
	}
	cancel()
	wg.Wait()
}
