package xfrm

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// TestOffload: an SA for a device has it in its state and in listings, also after it
// was read from the kernel. An SA that no device has taken is refused.
func TestOffload(t *testing.T) {
	tb := newTables()
	tb.links = []rtnl.Link{{Index: 1, Name: "lo"}, {Index: 7, Name: "eth0"}}
	tb.local = map[netip.Addr]int{here: 7}
	want := map[netip.Addr]uint8{here: nlxfrm.OffloadInbound, there: 0}
	for dst, flags := range want {
		spec := &klips.SASpec{ID: klips.SAID{Proto: klips.ProtoESP, SPI: 0x100, Dst: dst}, Src: here.Next(), Offload: "eth0",
			Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: make([]byte, 20)}
		s, err := newSA(spec, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		asked := s.state
		if err := tb.addSA(s); err != nil {
			t.Fatal(err)
		}
		if o := s.state.Offload; o == nil || *o != (nlxfrm.Offload{IfIndex: 7, Flags: flags}) {
			t.Errorf("%v: offload %v", dst, o)
		}
		if asked.Offload != nil {
			t.Error("the change cannot be done another time")
		}
		if got := tb.offloadOf(s); got != "eth0" {
			t.Errorf("listed as %q", got)
		}
	}
	objects, err := tb.compile()
	if err != nil {
		t.Fatal(err)
	}
	p, err := diff(newObjects(), objects, &dump{})
	if err != nil {
		t.Fatal(err)
	}
	regrouped := &plan{}
	for _, s := range p.states {
		st := s.object.(*nlxfrm.State)
		regrouped.rewrites = append(regrouped.rewrites, rewrite{st, st, true})
	}
	for _, k := range []struct {
		is    *nlxfrm.Offload
		err   error
		fault klips.Fault
	}{
		{is: &nlxfrm.Offload{IfIndex: 7}},
		{err: syscall.EOPNOTSUPP, fault: klips.FaultOffloadRefused},
	} {
		for _, p := range []*plan{p, regrouped} {
			asked := 0
			err := p.checkOffload(func(nlxfrm.ID, nlxfrm.Mark) (*nlxfrm.State, error) {
				asked++
				return &nlxfrm.State{Offload: k.is}, nil
			})
			var op *klips.OpError
			if !errors.Is(err, k.err) || k.err != nil && (!errors.As(err, &op) || op.Fault != k.fault) || asked == 0 {
				t.Errorf("offload %v in the kernel: %v after %d questions", k.is, err, asked)
			}
		}
	}
}
