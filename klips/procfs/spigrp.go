package procfs

import (
	"bytes"
	"io"

	"github.com/klips-go/ipsec/klips"
)

// WriteSPIGrp writes ipsec_spigrp: a line for each SA, in the given order, with the SA
// and those after it in its group. A blank follows each SAID.
func WriteSPIGrp(w io.Writer, sas []klips.SA) error {
	return writeLines(w, sas, func(b []byte, sa *klips.SA) []byte {
		b = append(appendSAID(b, sa.ID), ' ')
		for _, id := range sa.Next {
			b = append(appendSAID(b, id), ' ')
		}
		return append(b, '\n')
	})
}

// ParseSPIGrp parses ipsec_spigrp: for each line its SAIDs, at least one. A SAID whose
// SA a KLIPS kernel freed too early has an invalid destination.
func ParseSPIGrp(r io.Reader) ([][]klips.SAID, error) {
	return records(r, "ipsec_spigrp", parseGroup)
}

func parseGroup(line []byte) (g []klips.SAID, err error) {
	for f := range bytes.FieldsSeq(line) {
		id, err := parseSAID(f)
		if err != nil {
			return nil, err
		}
		g = append(g, id)
	}
	return g, nil
}

// JoinGroups sets the Next of each SA from the lines of ipsec_spigrp. The kernel's two
// tables are read one after the other: an SA without a line has no group.
func JoinGroups(sas []klips.SA, groups [][]klips.SAID) {
	next := make(map[klips.SAID][]klips.SAID, len(groups))
	for _, g := range groups {
		if len(g) > 1 {
			next[g[0]] = g[1:]
		}
	}
	for i := range sas {
		sas[i].Next = next[sas[i].ID]
	}
}
