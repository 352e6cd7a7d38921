package nlxfrm

import (
	"context"

	"github.com/mdlayher/netlink"
)

// infoLen is the length of the flags at the start of messages about all objects.
const infoLen = 4

// Attributes of the messages about all objects.
const (
	attrStates   = 1 // XFRMA_SAD_CNT
	attrPolicies = 1 // XFRMA_SPD_INFO, struct xfrmu_spdinfo
)

// A Count is a number of objects.
type Count int

// CountStates returns the number of states, including those of other programs and those
// that the kernel makes by itself.
func (c *Conn) CountStates(ctx context.Context) (Count, error) {
	n, err := get(ctx, c, getCount("count states", msgGetSAD), msgNewSAD, parseStates)
	return value(n), err
}

// CountPolicies returns the number of policies, except those of sockets.
func (c *Conn) CountPolicies(ctx context.Context) (Count, error) {
	n, err := get(ctx, c, getCount("count policies", msgGetSPD), msgNewSPD, parsePolicies)
	return value(n), err
}

func value(n *Count) Count {
	if n == nil {
		return 0
	}
	return *n
}

func getCount(op string, typ netlink.HeaderType) Request {
	r := request(op, nil, typ, make([]byte, infoLen), nil)
	r.flags = netlink.Request
	return r
}

// parseStates reads the data of a NEWSADINFO message.
func parseStates(b []byte) (*Count, error) { return parseCount(b, attrStates, 1) }

// parsePolicies reads the data of a NEWSPDINFO message: the numbers of policies in, out
// and fwd, and then those of sockets.
func parsePolicies(b []byte) (*Count, error) { return parseCount(b, attrPolicies, 3) }

// parseCount adds the first numbers of an attribute.
func parseCount(b []byte, attr uint16, numbers int) (*Count, error) {
	if len(b) < infoLen {
		return nil, malformed("numbers of objects in %d bytes, want %d", len(b), infoLen)
	}
	var sum Count
	found := false
	var walk error
	for typ, p := range attrs(b[infoLen:], &walk) {
		if typ != attr || found {
			continue
		}
		if err := want(typ, p, 4*numbers); err != nil {
			return nil, err
		}
		found = true
		for i := range numbers {
			sum += Count(native.Uint32(p[4*i:]))
		}
	}
	switch {
	case walk != nil:
		return nil, walk
	case !found:
		return nil, malformed("no numbers of objects")
	}
	return &sum, nil
}
