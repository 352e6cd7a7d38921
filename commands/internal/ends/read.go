// Package ends has what is known about one end of a tunnel, as in the JSON of ipsec barf: it
// reads that of this host, finds it in the output of another one, and compares both.
package ends

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/manual/derive"
	"github.com/klips-go/ipsec/klips"
)

// MaxFingerprints limits the checks of keys: each takes about as long as a password's.
const MaxFingerprints = 16

// Read reads the tables of a stack into b, and the checks of keys. leave gets what cannot be
// read, and why.
func Read(ctx context.Context, s klips.Stack, b *output.Barf, leave func(what string, err error)) {
	for _, part := range [...]struct {
		what string
		want klips.Want
		use  func(t *klips.Snapshot)
	}{
		{"SAs", klips.Want{SAs: true}, func(t *klips.Snapshot) {
			b.SAs, b.Groups = output.SAs(t.SAs), output.Groups(t.SAs)
			fingerprints(ctx, s, t.SAs, b, leave)
		}},
		{"eroutes", klips.Want{Eroutes: true}, func(t *klips.Snapshot) { b.Eroutes = output.Eroutes(t.Eroutes) }},
		{"devices", klips.Want{Devices: true}, func(t *klips.Snapshot) { b.Devices = output.Devices(t.Devices) }},
		{"dropped packets", klips.Want{Drops: true}, func(t *klips.Snapshot) { b.Drops = t.Drops }},
		{"objects of other programs", klips.Want{Foreign: true}, func(t *klips.Snapshot) { b.Foreign = t.Foreign }},
	} {
		if t, err := s.Snapshot(ctx, part.want); err != nil {
			leave(part.what, explain.Listing(part.what, err))
		} else {
			part.use(t)
		}
	}
}

// Addresses returns the addresses of this host, except those of loopback.
func Addresses() []netip.Addr {
	l, _ := links.Addresses()
	return slices.DeleteFunc(l, netip.Addr.IsLoopback)
}

// fingerprints adds checks of the keys of SAs, where the stack gives keys to this user.
func fingerprints(ctx context.Context, s klips.Stack, sas []klips.SA, b *output.Barf, leave func(what string, err error)) {
	const what = "checks of keys"
	for _, sa := range sas {
		if sa.ID.Proto != klips.ProtoESP && sa.ID.Proto != klips.ProtoAH {
			continue
		}
		if len(b.KeyFingerprints) >= MaxFingerprints {
			leave(what, fmt.Errorf("those of the SAs from %v on are left out, because each takes time", sa.ID))
			return
		}
		keys, err := klips.ReadKeys(ctx, s, sa.ID)
		switch {
		case errors.Is(err, syscall.ESRCH):
			continue // it has gone meanwhile
		case err != nil:
			leave(what, explain.Reading(sa.ID, err))
			return
		}
		for _, k := range [...]struct {
			use string
			key []byte
		}{{"encryption", keys.EncKey}, {"authentication", keys.AuthKey}} {
			if len(k.key) == 0 || ctx.Err() != nil {
				continue
			}
			if check, err := derive.Fingerprint(k.key, sa.ID.String()); err != nil {
				leave(what, err)
			} else {
				b.KeyFingerprints = append(b.KeyFingerprints, output.KeyFingerprint{SAID: sa.ID.String(), Use: k.use, Fingerprint: check})
			}
		}
		keys.Clear()
	}
}
