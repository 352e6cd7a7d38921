package pf_key

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/pfkey"
)

func TestWords(t *testing.T) {
	gw, src := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1")
	esp, tun := klips.SAID{Dst: gw, SPI: 0x101, Proto: klips.ProtoESP}, klips.SAID{Dst: gw, SPI: 0x100, Proto: klips.ProtoTun}
	spec := &klips.SASpec{ID: esp, Src: src, Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, Window: 64, Hard: klips.Limits{Bytes: 1000},
		EncKey: []byte("0123456789abcdef"), AuthKey: []byte("0123456789abcdefghij")}
	sel := klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}
	refused := pfkey.ErrorReply(pfkey.AddSA(spec).Header, syscall.EEXIST)
	for _, tt := range []struct {
		m    *pfkey.Message
		want string
	}{
		{pfkey.AddSA(spec), "ADD esp0x101@192.0.2.2 from 192.0.2.1 ESP_AES_HMAC_SHA1 window=64 hard-bytes=1000 seq=0"},
		{pfkey.DeleteSA(tun), "DELETE tun0x100@192.0.2.2 seq=0"},
		{pfkey.GroupPair(tun, esp), "X_GRPSA tun0x100@192.0.2.2 esp0x101@192.0.2.2 seq=0"},
		{pfkey.AddFlow(klips.Eroute{Selector: sel, ID: tun}, klips.ErouteAdd), "X_ADDFLOW 10.1.0.0/16 -> 10.2.0.0/16 => tun0x100@192.0.2.2 seq=0"},
		{pfkey.DelFlow(sel), "X_DELFLOW 10.1.0.0/16 -> 10.2.0.0/16 seq=0"},
		{pfkey.Expire(&klips.SA{ID: esp, Src: src, Transform: spec.Transform, Life: klips.Life{Bytes: klips.Counter{Hard: 1000}}}, true, time.Unix(1, 0)),
			"EXPIRE esp0x101@192.0.2.2 from 192.0.2.1 ESP_AES_HMAC_SHA1 its hard limit has passed hard-bytes=1000 seq=0"},
		{pfkey.Acquire(pfkey.Acquisition{Src: netip.MustParseAddrPort("10.1.0.1:0"), Dst: netip.MustParseAddrPort("10.2.0.1:443"), Proto: 6}), "ACQUIRE from 10.1.0.1 proto=6 to 10.2.0.1 port=443 proto=6 seq=0"},
		{pfkey.NewMapping(esp, netip.MustParseAddrPort("192.0.2.1:4500"), netip.MustParseAddrPort("192.0.2.9:1024")), "X_NAT_T_NEW_MAPPING SPI 0x101, the peer was 192.0.2.1 proto=50 port 4500 and is 192.0.2.9 proto=50 port 1024 seq=0"},
		{pfkey.Register(pfkey.SATypeESP), "REGISTER for ESP seq=0"},
		{refused, "ADD refused (it exists already; remove it first) seq=0"},
	} {
		b, err := tt.m.Marshal()
		if err != nil {
			t.Fatalf("%v: %v", tt.m, err)
		}
		if got := inWords(b); got != tt.want {
			t.Errorf("%v is\n%q, want\n%q", tt.m.Type, got, tt.want)
		}
	}
	if got := inWords([]byte{2, 3}); !strings.HasPrefix(got, "a message that is not valid: ") {
		t.Error(got)
	}
}

// No message makes the words fail, and none of them has its keys.
func FuzzWords(f *testing.F) {
	b, err := pfkey.AddSA(&klips.SASpec{ID: klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x101, Proto: klips.ProtoESP},
		Src: netip.MustParseAddr("192.0.2.1"), Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: []byte("ENCRYPTION-KEY-0"), AuthKey: []byte("AUTHENTICATION-KEY-0")}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		text := inWords(b)
		if strings.Count(text, "\n") != 0 || strings.Contains(text, "ENCRYPTION-KEY") || strings.Contains(text, "AUTHENTICATION-KEY") {
			t.Errorf("%x is %q", b, text)
		}
	})
}
