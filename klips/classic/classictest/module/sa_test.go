package module_test

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

// The errnos of ADD: one case of each kind in the table of observations.
func TestAdd(t *testing.T) {
	esp := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoESP}
	ah := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoAH}
	comp := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoComp}
	cipher := func(a alg.Enc, bytes int) func(*klips.SASpec) {
		return func(s *klips.SASpec) { s.Enc, s.EncKey = a, make([]byte, bytes) }
	}
	auth := func(a alg.Auth, bytes int) func(*klips.SASpec) {
		return func(s *klips.SASpec) { s.Auth, s.AuthKey = a, make([]byte, bytes) }
	}
	for _, c := range []struct {
		name string
		m    *pfkey.Message
		want syscall.Errno
		line string // the start of its line in ipsec_spi, up to a colon
	}{
		{"low SPI", add(tun(0xff, there)), syscall.EINVAL, ""},
		{"lowest SPI", add(tun(0x100, there)), 0, "tun0x100@10.9.0.2 IPIP"},
		{"magic", add(klips.Magic(klips.SPIPass)), syscall.EINVAL, ""},
		{"CPI above 16 bits", add(klips.SAID{Dst: there, SPI: 0x12345, Proto: klips.ProtoComp}), 0, "comp0x12345@10.9.0.2 COMP_DEFLATE"},
		{"to nowhere", add(tun(0x1000, netip.IPv4Unspecified())), 0, "tun0x1000@0.0.0.0 IPIP"},
		{"IPv6 source, IPv4 destination", add(tun(0x1000, there), func(s *klips.SASpec) { s.Src = netip.IPv6LinkLocalAllNodes() }), 0, "tun0x1000@10.9.0.2 IPIP"},
		{"DES", add(esp, cipher(2, 8)), syscall.EPROTO, ""},
		{"null", add(esp, cipher(alg.Null, 0)), syscall.EPROTO, ""},
		{"GCM", add(esp, cipher(alg.AESGCM, 20), auth(0, 0)), syscall.EPROTO, ""},
		{"CAST", add(esp, cipher(6, 16)), 0, "esp0x1000@10.9.0.2 ESP_ID6_HMAC_MD5"},
		{"no cipher", add(esp, cipher(0, 0)), syscall.EINVAL, ""},
		{"short 3DES key", add(esp, cipher(alg.TripleDES, 23)), syscall.EINVAL, ""},
		{"long 3DES key", add(esp, cipher(alg.TripleDES, 25)), syscall.EINVAL, ""},
		{"AES-192", add(esp, cipher(alg.AES, 24)), 0, "esp0x1000@10.9.0.2 ESP_AES_HMAC_MD5"},
		{"AES-136", add(esp, cipher(alg.AES, 17)), syscall.EINVAL, ""},
		{"no cipher key", add(esp, cipher(alg.AES, 0)), syscall.EINVAL, ""},
		{"no authentication", add(esp, auth(0, 0)), 0, "esp0x1000@10.9.0.2 ESP_3DES"},
		{"no authentication, but its key", add(esp, auth(0, 20)), 0, "esp0x1000@10.9.0.2 ESP_3DES"},
		{"unknown authenticator", add(esp, auth(8, 20)), syscall.EINVAL, ""},
		{"AES-XCBC", add(esp, auth(9, 16)), 0, "esp0x1000@10.9.0.2 ESP_3DES_ID9"},
		{"short MD5 key", add(esp, auth(alg.MD5, 15)), syscall.EINVAL, ""},
		{"no MD5 key", add(esp, auth(alg.MD5, 0)), syscall.EINVAL, ""},
		{"AH with SHA-2", add(ah, auth(alg.SHA512, 64)), 0, "ah0x1000@10.9.0.2 AH_HMAC_SHA2_512"},
		{"AH over IPv6", add(klips.SAID{Dst: netip.MustParseAddr("2001:db8::2"), SPI: 0x1000, Proto: klips.ProtoAH}), 0, "ah0x1000@2001:db8::2 AH_HMAC_MD5"},
		{"AH without authentication", add(ah, auth(0, 0)), syscall.EINVAL, ""},
		{"AH with a cipher", add(ah, cipher(alg.TripleDES, 24)), syscall.EINVAL, ""},
		{"no compression", add(comp, func(s *klips.SASpec) { s.Comp = 0 }), syscall.EINVAL, ""},
		{"odd compression", add(comp, func(s *klips.SASpec) { s.Comp = 4 }), 0, "comp0x1000@10.9.0.2 COMP_UNKNOWN_comp"},
		{"no such device", add(esp, func(s *klips.SASpec) { s.OutIf = 49152 + 7 }), syscall.ENODEV, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			if c.want != 0 {
				b.refused(c.want, c.m)
				b.table("ipsec_spi")
				return
			}
			b.do(c.m)
			if line, _, _ := strings.Cut(b.Tables()["ipsec_spi"], ": "); line != c.line {
				t.Errorf("ipsec_spi has %s, want %s", line, c.line)
			}
			b.refused(syscall.EEXIST, c.m)
		})
	}
}

// Times are KLIPS' seconds; a limit on the use of an unused SA shows an absurd age; the
// byte counter of AH goes below zero.
func TestLife(t *testing.T) {
	b := newBench(t)
	id := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoAH}
	b.do(add(id, func(s *klips.SASpec) { s.Hard.UseTime = 60 }))
	b.uptime += 5 * time.Second
	life := func() string {
		_, l, _ := strings.Cut(b.Tables()["ipsec_spi"], " jiffies=")
		l, _, _ = strings.Cut(l, " natencap=")
		return l
	}
	if got, want := life(), "4294937796 life(c,s,h)=addtime(5,0,0)usetime(42949377,0,60)"; got != want {
		t.Errorf("jiffies=%s, want %s", got, want)
	}
	errno, back := b.ask(pfkey.GetSA(id))
	if errno != 0 || len(back) != 1 || back[0].LifeCurrent == nil || back[0].LifeCurrent.AddTime != 42949372 {
		t.Errorf("GET: %v, %v", errno, back)
	}
	b.Use(id, 3, -252)
	b.uptime += 2 * time.Second
	want := "4294937996 life(c,s,h)=bytes(18446744073709551364,0,0)addtime(7,0,0)usetime(2,0,60)packets(3,0,0) idle=2"
	if got := life(); got != want {
		t.Errorf("jiffies=%s, want %s", got, want)
	}
}

// UPDATE leaves the old SA behind the new one.
func TestUpdate(t *testing.T) {
	b := newBench(t)
	id := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoESP}
	spec := &klips.SASpec{ID: id, Src: here, Transform: klips.Transform{Enc: alg.AES}, EncKey: make([]byte, 16)}
	b.refused(syscall.ENOENT, pfkey.UpdateSA(spec))
	b.do(add(id), pfkey.UpdateSA(spec))
	lines := strings.Split(b.Tables()["ipsec_spi"], "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "refcount=2 ref=0 refhim=0") || !strings.HasSuffix(lines[1], "refcount=3 ref=1 refhim=0") {
		t.Errorf("ipsec_spi:\n%s", strings.Join(lines, "\n"))
	}
}
