package look

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// maxUnchecked is how many SAs one line names.
const maxUnchecked = 10

// writeUnchecked prints which SAs have no replay window, so that packets which somebody has
// recorded are taken again (RFC 4303 section 3.4.3). KLIPS gives an SA none unless it is told
// so. SAs of both directions count: the same SA on the peer has most likely none either.
func writeUnchecked(w io.Writer, sas []klips.SA) {
	var l []string
	for i := range sas {
		if canCheck(&sas[i]) && sas[i].Window == 0 {
			l = append(l, sas[i].ID.String())
		}
	}
	if len(l) == 0 {
		return
	}
	slices.Sort(l)
	more := ""
	if n := len(l) - maxUnchecked; n > 0 {
		l, more = l[:maxUnchecked], fmt.Sprintf(" and %d more", n)
	}
	fmt.Fprintf(w, "replay off %s%s\n", strings.Join(l, " "), more)
}

// canCheck reports whether an SA has sequence numbers that nobody can forge: it is AH, or ESP
// with an ICV.
func canCheck(sa *klips.SA) bool {
	switch sa.ID.Proto {
	case klips.ProtoAH:
		return true
	case klips.ProtoESP:
		enc, _ := sa.Transform.Enc.Info()
		return sa.Transform.Auth != alg.AuthNone || enc.AEAD
	}
	return false
}
