package output

import "github.com/klips-go/ipsec/klips"

// A group of security associations. An association without a group is a group of one.
type Group struct {
	// The direction of the first member: out, in or both.
	Direction string `json:"direction"`
	// The members in the order in which packets pass through them: from the innermost
	// to the outermost for sent packets, from the outermost to the innermost for
	// received ones.
	Members []Name `json:"members"`
}

// Groups returns the groups of SAs, in the order of their first SAs. The groups of a
// KLIPS kernel can be loops, which have no first SA; even then each SA is in a group.
func Groups(sas []klips.SA) []Group {
	groups := []Group{}
	follows := map[klips.SAID]bool{}
	for i := range sas {
		for _, id := range sas[i].Next {
			follows[id] = true
		}
	}
	seen := map[klips.SAID]bool{}
	add := func(sa *klips.SA) {
		g := Group{sa.Dir.String(), []Name{newName(sa.ID)}}
		seen[sa.ID] = true
		for _, id := range sa.Next {
			g.Members = append(g.Members, newName(id))
			seen[id] = true
		}
		groups = append(groups, g)
	}
	for i := range sas {
		if !follows[sas[i].ID] {
			add(&sas[i])
		}
	}
	for i := range sas {
		if !seen[sas[i].ID] {
			add(&sas[i])
		}
	}
	return groups
}
