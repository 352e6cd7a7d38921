package look

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/klips"
)

// maxUnchecked is how many SAs one line names.
const maxUnchecked = 10

// writeUnchecked prints which SAs have no replay window, so that packets which somebody has
// recorded are taken again (RFC 4303 section 3.4.3). KLIPS gives an SA none unless it is told
// so. SAs of both directions count: the same SA on the peer has most likely none either.
func writeUnchecked(w io.Writer, sas []klips.SA) {
	var l []string
	for i := range sas {
		if sas[i].Transform.Authenticates(sas[i].ID.Proto) && sas[i].Window == 0 {
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
