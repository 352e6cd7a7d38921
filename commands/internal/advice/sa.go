package advice

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/klips"
)

// saltBytes is the length of the salt at the end of the keys of combined modes
// (RFC 4106 section 8.1, RFC 7634 section 2).
const saltBytes = 4

// SA checks an SA that may protect less than it seems. It returns nil if there is
// nothing to check. Its notes begin with the SAID, see [cli.Notes]. spec is not kept.
func SA(spec *klips.SASpec) cli.Check {
	if spec.ID.Proto != klips.ProtoESP && spec.ID.Proto != klips.ProtoAH {
		return nil
	}
	id, zeros, asked := spec.ID, zeroKeys(spec), spec.ReuseKey
	authenticates := spec.Authenticates(spec.ID.Proto)
	enc, _ := spec.Enc.Info()
	if zeros == nil && authenticates && !enc.AEAD && spec.Window != 0 && !id.Dst.IsMulticast() {
		return nil
	}
	return func(ctx context.Context, t cli.Tables) []string {
		notes := slices.Clone(zeros)
		group, err := t.Group(ctx, id)
		i := slices.IndexFunc(group, func(sa klips.SA) bool { return sa.ID == id })
		if err != nil || i < 0 {
			return notes // the SA has been made, and is gone or cannot be read
		}
		sa := group[i]
		if text := sameKey(ctx, t, &sa); text != "" && !asked {
			notes = append(notes, text)
		}
		covered := func(by func(*klips.SA) bool) bool {
			return slices.ContainsFunc(group, func(sa klips.SA) bool { return sa.Transform.Authenticates(sa.ID.Proto) && by(&sa) })
		}
		switch {
		case !authenticates:
			if !covered(func(*klips.SA) bool { return true }) {
				notes = append(notes, fmt.Sprintf("%v: it encrypts and does not authenticate, so packets can be changed on their way, and what they hold be found out that way (RFC 8221 section 4); "+
					"take an algorithm that authenticates, such as aes256-sha2_256, or put an ah SA behind it (ipsec spigrp)", id))
			}
		case sa.Dir == klips.Both:
			notes = append(notes, shared(&sa)...)
		case sa.Dir == klips.Inbound && !fromNeighbours(&sa) && !covered(func(sa *klips.SA) bool { return sa.Window != 0 }):
			notes = append(notes, fmt.Sprintf("%v: without a replay window it takes packets again that somebody has recorded (RFC 4303 section 3.4.3); "+
				"give inbound SAs one: --replay_window 64, in ipsec.conf %sreplay_window=64", id, id.Proto))
		}
		return notes
	}
}

// shared returns notes about an SA with which all hosts of a link send.
func shared(sa *klips.SA) (notes []string) {
	if enc, _ := sa.Transform.Enc.Info(); enc.AEAD {
		notes = append(notes, fmt.Sprintf("%v: several hosts send with its key, and count from the same number, so they use nonces twice, which reveals packets and lets others forge them (RFC 4106 section 2); "+
			"take an algorithm that is no combined mode, such as null-sha2_256 or aes256-sha2_256", sa.ID))
	}
	if sa.Window != 0 {
		notes = append(notes, fmt.Sprintf("%v: several hosts send with it, and its replay window takes their numbers for those of one host, so it drops packets (RFC 4303 section 2.2); leave the replay window out", sa.ID))
	}
	return notes
}

// fromNeighbours reports whether several hosts of a link can send to this one with an SA:
// then it cannot have a replay window (RFC 4303 section 2.2).
func fromNeighbours(sa *klips.SA) bool {
	return sa.ID.Dst.Is6() && sa.ID.Dst.IsLinkLocalUnicast() && !sa.HasSource()
}

// Dropped returns a check whose note is that the kernel drops the packets of an SA, for
// the fault f. The note begins with the SAID, see [cli.Notes].
func Dropped(id klips.SAID, f klips.Fault) cli.Check {
	return func(context.Context, cli.Tables) []string {
		return []string{fmt.Sprintf("%v: %s", id, explain.Fault(f))}
	}
}

// zeroKeys returns notes about keys that are all zeros, apart from a salt.
func zeroKeys(spec *klips.SASpec) (notes []string) {
	enc := spec.EncKey
	if info, _ := spec.Enc.Info(); info.AEAD {
		enc = enc[:max(len(enc)-saltBytes, 0)]
	}
	for _, k := range [...]struct {
		use string
		key []byte
	}{{"encryption", enc}, {"authentication", spec.AuthKey}} {
		if len(k.key) > 0 && len(bytes.Trim(k.key, "\x00")) == 0 {
			notes = append(notes, fmt.Sprintf("%v: its %s key is all zeros, which anybody can guess; make one with ipsec ranbits", spec.ID, k.use))
		}
	}
	return notes
}

// sameKey returns the note about an SA that shares the key of a combined mode with
// others; "" for other SAs. A key that two outbound SAs share was accepted because the
// user asked for it.
func sameKey(ctx context.Context, t cli.Tables, sa *klips.SA) string {
	for _, id := range sa.SameKey {
		group, err := t.Group(ctx, id)
		i := slices.IndexFunc(group, func(sa klips.SA) bool { return sa.ID == id })
		if err != nil || i < 0 {
			continue
		}
		which := ""
		switch other := group[i].Dir; {
		case other != sa.Dir:
			which = "both directions have"
		case other == klips.Inbound:
			which = "two inbound SAs have"
		default:
			continue
		}
		a, b := sa.ID.String(), id.String() // always in the same order
		return fmt.Sprintf("%s and %s: %s one key and salt; two that send with one key can use a nonce twice, which reveals packets and lets others forge them (RFC 4106 section 2): "+
			"give each SA a key of its own, in ipsec.conf leftespenckey and rightespenckey", min(a, b), max(a, b), which)
	}
	return ""
}
