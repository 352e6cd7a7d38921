package ends

import (
	"slices"

	"github.com/klips-go/ipsec/commands/internal/output"
)

// A NAT between the ends changes addresses: each end has its SAs in UDP with the addresses that
// it sees itself. Such SAs are one if they have one protocol and one SPI, in opposite directions.

// inUDP returns the SAs of an end that are encapsulated in UDP, or in a group with one that is.
func inUDP(b *output.Barf) map[string]bool {
	l := map[string]bool{}
	for i := range b.SAs {
		if b.SAs[i].UDPEncapsulation != nil {
			l[b.SAs[i].SAID] = true
		}
	}
	for _, g := range b.Groups {
		if slices.ContainsFunc(g.Members, func(m output.Name) bool { return l[m.SAID] }) {
			for _, m := range g.Members {
				l[m.SAID] = true
			}
		}
	}
	return l
}

// translate returns there with the SAIDs that this end has for SAs in UDP. Their checks of keys
// are left out, because the SAID is in them.
func translate(here, there *output.Barf) *output.Barf {
	ours, theirs := inUDP(here), inUDP(there)
	hereSAs, thereSAs := index(here), index(there)
	names := map[string]output.Name{}
	for i := range there.SAs {
		sa := &there.SAs[i]
		if !theirs[sa.SAID] || hereSAs[sa.SAID] != nil {
			continue
		}
		for k := range here.SAs {
			o := &here.SAs[k]
			if ours[o.SAID] && o.Protocol == sa.Protocol && o.SPI == sa.SPI && o.Direction != sa.Direction && thereSAs[o.SAID] == nil {
				names[sa.SAID] = o.Name
			}
		}
	}
	if len(names) == 0 {
		return there
	}
	t := *there
	t.SAs, t.Groups, t.Eroutes = slices.Clone(there.SAs), slices.Clone(there.Groups), slices.Clone(there.Eroutes)
	for i := range t.SAs {
		if n, ok := names[t.SAs[i].SAID]; ok {
			t.SAs[i].Name = n
		}
	}
	for i := range t.Groups {
		t.Groups[i].Members = slices.Clone(t.Groups[i].Members)
		for k, m := range t.Groups[i].Members {
			if n, ok := names[m.SAID]; ok {
				t.Groups[i].Members[k] = n
			}
		}
	}
	for i := range t.Eroutes {
		if n, ok := names[t.Eroutes[i].SAID]; ok {
			t.Eroutes[i].SAID = n.SAID
		}
	}
	t.KeyFingerprints = slices.DeleteFunc(slices.Clone(there.KeyFingerprints), func(k output.KeyFingerprint) bool {
		_, ok := names[k.SAID]
		return ok
	})
	return &t
}
