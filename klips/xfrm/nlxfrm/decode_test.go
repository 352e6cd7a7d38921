package nlxfrm

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A decoded change makes the same request again.
func TestChange(t *testing.T) {
	id := ID{v4a, 7, 50}
	key := (&Policy{Selector: Selector{Family: FamilyIPv4}, Dir: DirOut, IfID: 3, Mark: Mark{1, 2}}).Key()
	policy := &Policy{Selector: Selector{Family: FamilyIPv6}, Dir: DirFwd, Templates: []Template{{ID: ID{Proto: 50}, ReqID: 9}}}
	for _, want := range []Request{
		AddState(aesSHA1(1)), UpdateState(aesSHA1(1)), DeleteState(id, Mark{5, 6}),
		AddPolicy(policy), UpdatePolicy(policy), DeletePolicy(key),
	} {
		c, err := want.Change()
		if err != nil {
			t.Fatalf("%v: %v", want, err)
		}
		var got Request
		switch {
		case c.State != nil && c.Add:
			got = AddState(c.State)
		case c.State != nil:
			got = UpdateState(c.State)
		case c.Policy != nil && c.Add:
			got = AddPolicy(c.Policy)
		case c.Policy != nil:
			got = UpdatePolicy(c.Policy)
		case c.Key != nil:
			got = DeletePolicy(*c.Key)
		default:
			got = DeleteState(c.ID, c.Mark)
		}
		if got.typ != want.typ || !cmp.Equal(got.data, want.data) {
			t.Errorf("%v: decoded and made again: type %#x % x\nwant type %#x % x", want, got.typ, got.data, want.typ, want.data)
		}
	}
	for _, r := range []Request{getState(id, Mark{}), {typ: msgDelSA}, {typ: msgDelPolicy}, {typ: msgNewSA}, AddState(&State{ID: ID{Dst: v4a}, Src: v6a})} {
		if c, err := r.Change(); err == nil {
			t.Errorf("%v: %+v", r, c)
		}
	}
}
