package xfrm

import (
	"net/netip"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// The kernel pads the headers of AH over IPv4 to 8 bytes unless it is told otherwise.
func TestAlign8(t *testing.T) {
	for _, tt := range []struct {
		dst    string
		proto  klips.Proto
		align8 bool
		flag   bool // FlagAlign4 is set
	}{
		{"192.0.2.2", klips.ProtoAH, false, true},
		{"192.0.2.2", klips.ProtoAH, true, false},
		{"2001:db8::2", klips.ProtoAH, false, false},
		{"192.0.2.2", klips.ProtoESP, false, false},
	} {
		spec := &klips.SASpec{
			ID:  klips.SAID{Dst: netip.MustParseAddr(tt.dst), SPI: 0x1000, Proto: tt.proto},
			Src: netip.MustParseAddr(tt.dst).Prev(), Transform: klips.Transform{Auth: alg.SHA256}, AuthKey: make([]byte, 32), Align8: tt.align8,
		}
		if tt.proto == klips.ProtoESP {
			spec.Enc = alg.Null
		}
		s, err := newSA(spec, time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.state.Flags&nlxfrm.FlagAlign4 != 0; got != tt.flag {
			t.Errorf("%v, padded %v: flag align4 is %v, want %v", spec.ID, tt.align8, got, tt.flag)
		}
	}
}
