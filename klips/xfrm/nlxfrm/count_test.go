package nlxfrm

import (
	"context"
	"errors"
	"testing"

	"github.com/mdlayher/netlink"
)

// counts is the data of a message with an attribute of numbers.
func counts(attr uint16, numbers ...uint32) []byte {
	b, p := appendAttr(make([]byte, infoLen), attr, 4*len(numbers))
	for i, n := range numbers {
		native.PutUint32(p[4*i:], n)
	}
	return b
}

// Policies of sockets do not count, and the kernel's other numbers do not either.
func TestCount(t *testing.T) {
	s := newFake(10, func(m netlink.Message) []answer {
		a := netlink.Message{Header: netlink.Header{Type: m.Header.Type - 1, Sequence: m.Header.Sequence}}
		if m.Header.Flags&netlink.Dump == netlink.Dump {
			t.Error("a count makes a dump")
		}
		switch m.Header.Type {
		case msgGetSAD:
			a.Data = append(counts(2, 8, 9), counts(1, 7)[infoLen:]...)
		case msgGetSPD:
			a.Data = append(counts(1, 1, 2, 4, 100, 100, 100), counts(2, 5, 6)[infoLen:]...)
		}
		return []answer{{msgs: []netlink.Message{a}}}
	})
	c := newConn(s)
	if n, err := c.CountStates(t.Context()); n != 7 || err != nil {
		t.Errorf("%d states, %v", n, err)
	}
	if n, err := c.CountPolicies(t.Context()); n != 7 || err != nil {
		t.Errorf("%d policies, %v", n, err)
	}
	for _, b := range [][]byte{nil, make([]byte, infoLen), counts(1, 1), append(counts(1, 1, 2, 4), 0)} {
		s.answer = func(m netlink.Message) []answer {
			return []answer{{msgs: []netlink.Message{{Header: netlink.Header{Type: msgNewSPD, Sequence: m.Header.Sequence}, Data: b}}}}
		}
		if n, err := c.CountPolicies(context.Background()); !errors.Is(err, ErrMalformed) {
			t.Errorf("% x: %d policies, %v", b, n, err)
		}
	}
}

func FuzzCount(f *testing.F) {
	f.Add(counts(1, 1, 2, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		one, err1 := parseStates(b)
		three, err3 := parsePolicies(b)
		if err3 == nil && (err1 != nil || *three < *one) {
			t.Errorf("%v policies, %v states, %v", three, one, err1)
		}
	})
}
