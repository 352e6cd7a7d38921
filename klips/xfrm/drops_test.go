package xfrm

import (
	"fmt"
	"maps"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// stat is the output of Linux 6.1.
const stat = `XfrmInError             	0
XfrmInBufferError       	0
XfrmInHdrError          	0
XfrmInNoStates          	3
XfrmInStateProtoError   	1
XfrmInStateModeError    	0
XfrmInStateSeqError     	6
XfrmInStateExpired      	0
XfrmInStateMismatch     	0
XfrmInStateInvalid      	0
XfrmInTmplMismatch      	4
XfrmInNoPols            	0
XfrmInPolBlock          	0
XfrmInPolError          	0
XfrmOutError            	0
XfrmOutBundleGenError   	0
XfrmOutBundleCheckError 	0
XfrmOutNoStates         	0
XfrmOutStateProtoError  	0
XfrmOutStateModeError   	0
XfrmOutStateSeqError    	2
XfrmOutStateExpired     	0
XfrmOutPolBlock         	0
XfrmOutPolDead          	0
XfrmOutPolError         	0
XfrmFwdHdrError         	0
XfrmOutStateInvalid     	0
XfrmAcquireError        	0
`

func TestStat(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{stat, "bad-icv=1 no-numbers=2 no-sa=3 replayed=6 wrong-order=4"},
		{"XfrmOfALaterKernel 2\nXfrmInError 1\n", "failed=3"},
		{"XfrmInNoStates 18446744073709551615", "no-sa=18446744073709551615"},
	} {
		if l, err := parseStat([]byte(tt.text)); err != nil || byReason(l).String() != tt.want {
			t.Errorf("%q is read as %v, %v, want %q", tt.text, l, err, tt.want)
		}
	}
	for _, text := range []string{"XfrmInError", "XfrmInError x", "XfrmInError -1", "a b c"} {
		if got, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
	for _, s := range statReasons {
		name, r := s.counter, s.reason
		got, err := parseStat(fmt.Appendf(nil, "%-24s\t%d\n", name, 7))
		if err != nil || r == drop.None || len(got) != 1 || got[0] != (klips.KernelDrops{Counter: name, Reason: r.String(), Packets: 7}) {
			t.Errorf("%s is read as %v, %v, want seven packets of %q", name, got, err, r)
		}
	}
}

func TestStateDrops(t *testing.T) {
	if got := stateDrops(nlxfrm.Stats{}); got != nil {
		t.Errorf("nothing counts as %v", got)
	}
	got := stateDrops(nlxfrm.Stats{OutOfWindow: 1, Replayed: 2, IntegrityFailed: 3})
	if want := (drop.Counts{"too-old": 1, "replayed": 2, "bad-icv": 3}); !maps.Equal(got, want) {
		t.Errorf("counts %v, want %v", got, want)
	}
}
