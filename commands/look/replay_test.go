package look

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

func TestUnchecked(t *testing.T) {
	sa := func(proto klips.Proto, spi klips.SPI, tr klips.Transform, window uint32) klips.SA {
		return klips.SA{ID: klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: spi, Proto: proto}, Transform: tr, Window: window}
	}
	hmac := klips.Transform{Auth: alg.SHA1}
	var many []klips.SA
	for i := range 12 {
		many = append(many, sa(klips.ProtoAH, klips.SPI(0x1000+i), hmac, 0))
	}
	for _, tt := range []struct {
		name string
		sas  []klips.SA
		want string
	}{
		{"none", nil, ""},
		{"with a window", []klips.SA{sa(klips.ProtoESP, 0x100, hmac, 64)}, ""},
		{"without sequence numbers that count", []klips.SA{sa(klips.ProtoTun, 0x100, klips.Transform{}, 0), sa(klips.ProtoESP, 0x100, klips.Transform{Enc: alg.AES}, 0)}, ""},
		{"sorted", []klips.SA{sa(klips.ProtoESP, 0x101, klips.Transform{Enc: alg.AESGCM}, 0), sa(klips.ProtoAH, 0x100, hmac, 0)}, "replay off ah0x100@192.0.2.2 esp0x101@192.0.2.2\n"},
		{"many", many, " ah0x1009@192.0.2.2 and 2 more\n"},
	} {
		var b strings.Builder
		writeUnchecked(&b, tt.sas)
		if got := b.String(); (got == "") != (tt.want == "") || !strings.HasSuffix(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
