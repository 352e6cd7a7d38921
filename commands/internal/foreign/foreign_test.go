package foreign_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/foreign"
	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
)

// commands returns the commands for a text, or the error.
func commands(format, text string) (string, error) {
	c, err := foreign.Read(format, []byte(text))
	if err != nil {
		return "", err
	}
	t, err := render.Render("ipsec", c)
	return strings.TrimPrefix(string(t.Body), "# ipsec batch FILE makes these, all or none.\n"), err
}

const (
	key16 = "0x000102030405060708090a0b0c0d0e0f"
	key20 = key16 + "10111213"
)

// TestTexts: texts as people and programs write them.
func TestTexts(t *testing.T) {
	for _, tt := range []struct{ name, format, text, want string }{
		{"a listing of ip", "ip-xfrm", `src 192.0.2.2 dst 192.0.2.1
	proto esp spi 0x00002002 reqid 8194 mode tunnel
	replay-window 0 flag nopmtudisc af-unspec esn
	aead rfc4106(gcm(aes)) ` + key20 + ` 128
	anti-replay esn context:
	 seq-hi 0x1, seq 0x7, oseq-hi 0x0, oseq 0x0
	 replay_window 64, bitmap-length 2
	 ffffffff 0000007f
	sel src 0.0.0.0/0 dst 0.0.0.0/0
src 192.0.2.1 dst 192.0.2.2
	proto esp spi 0x00001002(4098) reqid 4098(0x00001002) mode transport
	replay-window 32
	auth-trunc hmac(sha1) ` + key20 + ` 96
	enc cbc(aes) ` + key16 + `
	encap type espinudp sport 4500 dport 4501 addr 0.0.0.0
	lastused 2026-11-30 10:00:00
	anti-replay context: seq 0x0, oseq 0x5, bitmap 0x00000000
	dir out
	lifetime config:
	  limit: soft (INF)(bytes), hard (INF)(bytes)
src 192.0.2.2 dst 192.0.2.1
	proto 4 spi 0xc0000201 reqid 0 mode tunnel
	replay-window 0
src 10.2.0.0/24 dst 10.1.0.0/24
	dir fwd priority 7 ptype main
	tmpl src 192.0.2.2 dst 192.0.2.1
		proto esp reqid 8194 mode tunnel
src 10.2.0.0/24 dst 10.1.0.0/24
	dir in priority 7
	tmpl src 192.0.2.2 dst 192.0.2.1
		proto esp reqid 8194 mode tunnel
src 192.0.2.1/32 dst 192.0.2.2/32 proto tcp dport 80
	dir out priority 9
	tmpl src 0.0.0.0 dst 0.0.0.0
		proto esp reqid 4098 mode transport
src 0.0.0.0/0 dst 0.0.0.0/0
	socket in priority 0 ptype main
`, `spi --said tun0x2002@192.0.2.1 --ip4 --src 192.0.2.2 --dst 192.0.2.1
spi --said esp0x2002@192.0.2.1 --esp aes128-gcm --src 192.0.2.2 --enckey ` + key20 + ` --replay_window 64 --esn --replay-seq 4294967303
spigrp --said tun0x2002@192.0.2.1 esp0x2002@192.0.2.1
eroute --addin --src 10.2.0.0/24 --dst 10.1.0.0/24 --said tun0x2002@192.0.2.1
spi --said esp0x1002@192.0.2.2 --esp aes128-sha1 --src 192.0.2.1 --enckey ` + key16 + ` --authkey ` + key20 + ` --replay_window 32 --seq 5 --natt nonesp --sport 4501 --dport 4500
eroute --add --src 192.0.2.1/32 --dst 192.0.2.2/32 --transport-proto 6 --dst-port 80 --said esp0x1002@192.0.2.2
`},
		{"commands of a shell", "ip-xfrm", `#!/bin/sh
ip xfrm state flush # begin anew
ip -4 xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x500 \
	mode tunnel auth sha256 'abcdefghijklmnopqrstuvwxyz012345' enc aes "0123456789abcdef"
ip xfrm policy add dir out src 10.1.0.0/16 dst 10.2.0.0/16 tmpl src 10.0.0.1 dst 10.0.0.2 proto esp mode tunnel
ip xfrm policy add src 10.1.0.0/16 dst 10.3.0.0/16 dir out action block
`, ``},
		{"priorities from one end to the other", "ip-xfrm", `xfrm policy add src 10.1.0.0/24 dst 10.2.0.0/16 dir out priority 4294967295 action block
xfrm policy add src 10.1.0.0/24 dst 10.2.0.0/24 dir out priority 1
`, `eroute --add --src 10.1.0.0/24 --dst 10.2.0.0/24 --said %pass
eroute --add --src 10.1.0.0/24 --dst 10.2.0.0/16 --said %drop
`},
		{"bundles of setkey", "setkey", `#!/usr/sbin/setkey -f
flush; spdflush;
add 192.0.2.1 192.0.2.2 esp 0x1002 -m transport -E rijndael-cbc ` + key16 + ` -A hmac-sha1 "a key with twenty by";
add -n 192.0.2.1 192.0.2.2 ah 4099 -r 4 -A hmac-md5 0x000102030405060708090a0b0c0d0e0f ;
spdadd 192.0.2.1/32[any] 192.0.2.2/32[80] tcp -P out ipsec
	esp/transport//require
	ah/transport//require ;
spdadd 192.0.2.1 192.0.2.9 any -P out none;
`, `spi --said esp0x1002@192.0.2.2 --esp aes128-sha1 --src 192.0.2.1 --enckey ` + key16 + ` --authkey 0x61206b65792077697468207477656e7479206279
spi --said ah0x1003@192.0.2.2 --ah hmac-md5-96 --src 192.0.2.1 --authkey ` + key16 + ` --replay_window 32
spigrp --said esp0x1002@192.0.2.2 ah0x1003@192.0.2.2
eroute --add --src 192.0.2.1/32 --dst 192.0.2.2/32 --transport-proto 6 --dst-port 80 --said esp0x1002@192.0.2.2
eroute --add --src 192.0.2.1/32 --dst 192.0.2.9/32 --said %pass
`},
		{"both directions of OpenBSD", "ipsecctl", `# gateway
esp from 192.0.2.1 to 192.0.2.2 spi 0x1002:0x2002 \
	auth hmac-sha1 enc aes authkey ` + key20 + `:` + key20[2:] + ` \
	enckey ` + key16 + `
flow esp from 10.1.0.0/24 to 10.2.0.0/24 peer 192.0.2.2
`, `spi --said tun0x2002@192.0.2.1 --ip4 --src 192.0.2.2 --dst 192.0.2.1
spi --said esp0x2002@192.0.2.1 --esp aes128-sha1 --src 192.0.2.2 --enckey ` + key16 + ` --authkey ` + key20 + ` --replay_window 64
spigrp --said tun0x2002@192.0.2.1 esp0x2002@192.0.2.1
eroute --addin --src 10.2.0.0/24 --dst 10.1.0.0/24 --said tun0x2002@192.0.2.1
spi --said tun0x1002@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2
spi --said esp0x1002@192.0.2.2 --esp aes128-sha1 --src 192.0.2.1 --enckey ` + key16 + ` --authkey ` + key20 + ` --replay_window 64
spigrp --said tun0x1002@192.0.2.2 esp0x1002@192.0.2.2
eroute --add --src 10.1.0.0/24 --dst 10.2.0.0/24 --said tun0x1002@192.0.2.2
`},
	} {
		if tt.want == "" { // the keys are characters, and auth has the ICV of the kernel
			tt.want = fmt.Sprintf(`spi --said tun0x500@10.0.0.2 --ip4 --src 10.0.0.1 --dst 10.0.0.2 --copy-tos
spi --said esp0x500@10.0.0.2 --esp aes128-sha2_256-96 --src 10.0.0.1 --enckey 0x%x --authkey 0x%x
spigrp --said tun0x500@10.0.0.2 esp0x500@10.0.0.2
eroute --add --src 10.1.0.0/16 --dst 10.2.0.0/16 --said tun0x500@10.0.0.2
eroute --add --src 10.1.0.0/16 --dst 10.3.0.0/16 --said %%drop
`, "0123456789abcdef", "abcdefghijklmnopqrstuvwxyz012345")
		}
		got, err := commands(tt.format, tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, d)
		}
	}
}

// TestTunnels: each tunnel has a tun SA of its own. Its SPI is that of the SA in tunnel mode, or
// the next one that is free; MinSPI comes after the last one.
func TestTunnels(t *testing.T) {
	type sa struct{ proto, spi string }
	for _, tt := range []struct {
		name     string
		policies [][]sa   // the chain of each
		rest     []sa     // without a policy
		want     []string // the SPIs that the policies lead to
	}{
		{"two chains of one SPI", [][]sa{{{"esp", "0x100"}}, {{"ah", "0x100"}}}, nil, []string{"0x100", "0x101"}},
		{"the SPI was taken by an earlier chain", [][]sa{{{"esp", "0x100"}}, {{"ah", "0x100"}}, {{"esp", "0x101"}}, {{"ah", "0x101"}}}, nil,
			[]string{"0x100", "0x101", "0x102", "0x103"}},
		{"one chain", [][]sa{{{"esp", "0x100"}, {"ah", "0x100"}}, {{"ah", "0x101"}}}, nil, []string{"0x100", "0x102"}},
		{"two policies of one chain", [][]sa{{{"esp", "0x100"}}, {{"esp", "0x100"}}, {{"ah", "0x100"}}}, nil, []string{"0x100", "0x100", "0x101"}},
		{"SAs without a policy", [][]sa{{{"ah", "0x100"}}}, []sa{{"esp", "0x100"}}, []string{"0x100"}},
		{"the last SPI", [][]sa{{{"esp", "0xffffffff"}}, {{"ah", "0xffffffff"}}, {{"esp", "0x100"}}}, nil, []string{"0xffffffff", "0x100", "0x101"}},
	} {
		var states, policies strings.Builder
		made := map[sa]bool{}
		add := func(a sa) {
			if made[a] {
				return
			}
			made[a] = true
			fmt.Fprintf(&states, "xfrm state add src 10.0.0.1 dst 10.0.0.2 proto %s spi %s mode tunnel auth-trunc 'hmac(sha1)' %s 96", a.proto, a.spi, key20)
			if a.proto == "esp" {
				fmt.Fprintf(&states, " enc 'cbc(aes)' %s", key16)
			}
			fmt.Fprintln(&states)
		}
		for i, chain := range tt.policies {
			fmt.Fprintf(&policies, "xfrm policy add src 10.1.0.0/24 dst 10.2.%d.0/24 dir out", i)
			for _, a := range chain {
				add(a)
				fmt.Fprintf(&policies, " tmpl src 10.0.0.1 dst 10.0.0.2 proto %s spi %s mode tunnel", a.proto, a.spi)
			}
			fmt.Fprintln(&policies)
		}
		for _, a := range tt.rest {
			add(a)
		}
		c, err := foreign.Read("ip-xfrm", []byte(states.String()+policies.String()))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var got []string
		for _, e := range c.Eroutes {
			got = append(got, fmt.Sprintf("0x%x", uint32(e.ID.SPI)))
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: the eroutes lead to (-want +got)\n%s", tt.name, d)
		}
		names := map[klips.SAID]bool{}
		for _, s := range c.SAs() {
			if names[s.ID] || s.ID.SPI < klips.MinSPI {
				t.Errorf("%s: %s is there twice or is reserved", tt.name, s.ID)
			}
			names[s.ID] = true
		}
	}
}

// TestErrors: each error has its line and what is wrong, and shows no key.
func TestErrors(t *testing.T) {
	const (
		add   = "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x500 "
		esp   = add + "enc 'cbc(aes)' " + key16 + "\n"
		flow  = "xfrm policy add src 10.1.0.0/24 dst 10.2.0.0/24 dir out "
		tmpl  = "tmpl src 192.0.2.1 dst 192.0.2.2 proto esp "
		skadd = "add 192.0.2.1 192.0.2.2 esp 0x500 -E aes-cbc " + key16 + " ;\n"
		bsd   = "esp from 192.0.2.1 to 192.0.2.2 spi 0x500 auth hmac-sha1 enc aes authkey " + key20 + " enckey " + key16 + "\n"
	)
	for _, tt := range []struct{ format, text, want string }{
		{"ip-xfrm", "\n\nip link show\n", "line 3: link is no command of ip xfrm"},
		{"ip-xfrm", "xfrm state delete src 1.2.3.4\n", "line 1: ip xfrm … delete cannot be read"},
		{"ip-xfrm", " proto esp\n", "line 1: the first line is indented"},
		{"ip-xfrm", add + "enc 'cbc(aes)' '" + key16 + "\n", "line 1: the closing quote is missing"},
		{"ip-xfrm", add + "enc 'cbc(aes)' 0x0001\n", "line 1: esp0x500@192.0.2.2: "},
		{"ip-xfrm", add + "enc 'cbc(aes)' 0xzz" + key16[4:] + "\n", "line 1: the key has a character that is no hex digit"},
		{"ip-xfrm", add + "enc 'cbc(aes)' 0xKEY-NOT-SHOWN\n", "line 1: the key is not shown in this text; export it with --show-keys"},
		{"ip-xfrm", add + "enc 'cbc(aes)' <<Keys hidden>>\n", "line 1: the keys are hidden"},
		{"ip-xfrm", add + "enc 'cbc(blowfish)' " + key16 + "\n", "line 1: enc cbc(blowfish) has no equivalent"},
		{"ip-xfrm", add + "auth-trunc 'hmac(sha1)' " + key20 + " 80\n", "line 1: authentication hmac(sha1) with an ICV of 80 bits has no equivalent"},
		{"ip-xfrm", add + "tfcpad 5\n", "line 1: option tfcpad of a state has no equivalent"},
		{"ip-xfrm", add + "pcpu-num 1\n", "line 1: option pcpu-num of a state has no equivalent"},
		{"ip-xfrm", add + "lastused -\n\tlastused\n", "line 2: a date is missing at the end"},
		{"ip-xfrm", add + "if_id 0x5\n", "line 1: if_id 0x5 has no equivalent"},
		{"ip-xfrm", add + "mode beet\n", "line 1: mode beet has no equivalent"},
		{"ip-xfrm", add + "replay-window\n", "line 1: replay-window is missing at the end"},
		{"ip-xfrm", esp + esp, "line 2: esp0x500@192.0.2.2 is at line 1 already"},
		{"ip-xfrm", flow + tmpl + "mode tunnel\n", "line 1: the policy for 10.1.0.0/24 -> 10.2.0.0/24 needs an SA of protocol esp that the text does not have, to 192.0.2.2"},
		{"ip-xfrm", esp + strings.Replace(esp, "0x500", "0x501", 1) + flow + tmpl + "mode transport\n", "line 3: the policy for 10.1.0.0/24 -> 10.2.0.0/24 fits esp0x500@192.0.2.2 and esp0x501@192.0.2.2"},
		{"ip-xfrm", flow + tmpl + "level use\n", "line 1: level use lets packets pass without protection"},
		{"ip-xfrm", "xfrm policy add src 10.1.0.0/24 dst fd00::/8 dir out\n", "line 1: the packets are from 10.1.0.0/24 to fd00::/8"},
		{"ip-xfrm", "xfrm policy add src 10.1.0.1/24 dst 10.2.0.0/24 dir out\n", "line 1: the source: 10.1.0.1/24 has bits behind its mask"},
		{"ip-xfrm", "xfrm policy add src 10.1.0.0/24 dst 10.2.0.0/24\n", "line 1: the direction of the policy (dir) is missing"},
		{"ip-xfrm", flow + "priority 5 action block\nxfrm policy add src 10.1.0.7/32 dst 10.2.0.0/24 dir out priority 9\n",
			"line 1: here 10.1.0.0/24 -> 10.2.0.0/24 comes before 10.1.0.7/32 -> 10.2.0.0/24 of line 2"},
		{"ip-xfrm", esp + flow + strings.Repeat(tmpl, 5) + "\n", "line 2: the policy for 10.1.0.0/24 -> 10.2.0.0/24 needs 5 SAs"},
		{"setkey", "add 1.2.3.4 5.6.7.8 esp 5", "line 1: the semicolon at the end of the command is missing"},
		{"setkey", "\nadd host 5.6.7.8 esp 5 ;", "line 2: the source: host is no numeric address"},
		{"setkey", "spddelete ;", "line 1: spddelete cannot be read"},
		{"setkey", "add 1.2.3.4 5.6.7.8 tcp 0x500 -A tcp-md5 \"x\";", "line 1: protocol tcp has no equivalent"},
		{"setkey", "add 1.2.3.4 5.6.7.8 esp 0x500 -E blowfish-cbc 0x00;", "line 1: cipher blowfish-cbc has no equivalent"},
		{"setkey", "add 1.2.3.4 5.6.7.8 esp 0x500 -E aes-cbc secret;", "line 1: a key is 0x and hex digits"},
		{"setkey", "add 1.2.3.4 5.6.7.8 ipcomp 0x500 -C deflate;", "line 1: without -R"},
		{"setkey", skadd + "spdadd 10.1.0.0/24[80 10.2.0.0/24 tcp -P out none;", "line 2: the source: the bracket after the port is missing"},
		{"setkey", skadd + "spdadd 10.1.0.0/24 10.2.0.0/24 any -P out ipsec esp/tunnel/192.0.2.1-192.0.2.2/use;", "line 2: rule 1: level use lets packets pass"},
		{"setkey", skadd + "spdadd 10.1.0.0/24 10.2.0.0/24 any -P out ipsec esp/tunnel;", "line 2: rule 1: it is written"},
		{"setkey", skadd + "spdadd 10.1.0.0/24[7] 10.2.0.0/24 any -P out none;", "line 2: ports are those of TCP or UDP"},
		{"ipsecctl", "ike esp from 10.1.0.0/24 to 10.2.0.0/24\n", "line 1: a rule ike has no equivalent"},
		{"ipsecctl", "peer = \"192.0.2.2\"\n", "line 1: macros cannot be read"},
		{"ipsecctl", strings.Replace(bsd, "authkey "+key20, "authkey file \"k\"", 1), "line 1: the authentication key in a file cannot be read"},
		{"ipsecctl", strings.Replace(bsd, "enc aes", "enc aes-256", 1), "line 1: cipher aes-256 needs a key of 256 bits, and this one has 128"},
		{"ipsecctl", strings.Replace(bsd, "enc aes", "enc aes-128-gcm", 1), "line 1: cipher aes-128-gcm has no equivalent"},
		{"ipsecctl", bsd + "flow esp out from 10.1.0.0/24 to 10.2.0.0/24 peer 192.0.2.3\n", "line 2: the flow 10.1.0.0/24 -> 10.2.0.0/24 has no SA of its ends"},
		{"ipsecctl", bsd + "flow esp out from 10.1.0.0/24 to 10.2.0.0/24 peer 192.0.2.2 type use\n", "line 2: type use lets packets pass"},
		{"ipsecctl", bsd + "flow esp \\\n", "line 2: the last line ends with a backslash"},
		{"racoon", "", "no such format; there are ip-xfrm, setkey, ipsecctl"},
	} {
		_, err := commands(tt.format, tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %q: %v, want %s", tt.format, tt.text, err, tt.want)
			continue
		}
		if strings.Contains(err.Error(), key16[4:]) {
			t.Errorf("%s: the key is shown: %v", tt.format, err)
		}
		var at *foreign.Error
		if strings.HasPrefix(tt.want, "line ") != errors.As(err, &at) {
			t.Errorf("%v has the type %T", err, err)
		}
	}
}

// TestReadAll: a text without end is refused, and an error of the file is returned.
func TestReadAll(t *testing.T) {
	text, err := foreign.ReadAll(iotest.OneByteReader(strings.NewReader("hello")))
	if string(text) != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	for _, n := range []int{1, 1000, foreign.MaxText, foreign.MaxText + 1, 2*foreign.MaxText + 1} {
		if text, err := foreign.ReadAll(strings.NewReader(strings.Repeat("x", n))); (err == nil) != (n <= foreign.MaxText) || err == nil && len(text) != n {
			t.Errorf("a text of %d bytes: %d, %v", n, len(text), err)
		}
	}
	broken := errors.New("broken")
	if _, err := foreign.ReadAll(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// FuzzRead: no text makes a reader panic, and what it reads can be written and read again.
func FuzzRead(f *testing.F) {
	f.Add(0, "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x500 mode tunnel enc 'cbc(aes)' "+key16+"\n"+
		"xfrm policy add src 10.1.0.0/24 dst 10.2.0.0/24 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel\n")
	f.Add(0, "src 192.0.2.2 dst 192.0.2.1\n\tproto ah spi 0x2 reqid 1 mode transport\n\tauth-trunc hmac(sha1) "+key20+" 96\n\tanti-replay context: seq 0x0, oseq 0x5, bitmap 0x00000000\n")
	f.Add(1, "add 192.0.2.1[4500] 192.0.2.2[4500] esp-udp 0x1002 -r 4 -E aes-cbc "+key16+" -A hmac-sha1 "+key20+" ;\nspdadd 10.1.0.0/24 10.2.0.0/24[80] tcp -P out ipsec esp/transport//unique:1 ;")
	f.Add(2, "esp from 192.0.2.1 to 192.0.2.2 spi 0x1002:0x2002 auth hmac-sha1 enc aes authkey "+key20+" enckey "+key16+" bundle b\nflow esp from 10.1.0.0/24 to any peer 192.0.2.2\n")
	f.Fuzz(func(t *testing.T, n int, text string) {
		formats := foreign.Formats()
		format := formats[uint(n)%uint(len(formats))].Name
		c, err := foreign.Read(format, []byte(text))
		if err != nil {
			var at *foreign.Error
			if !errors.As(err, &at) || at.Line < 1 {
				t.Fatalf("%v of %T", err, err)
			}
			return
		}
		for _, f := range render.Formats() {
			if _, err := render.Render(f.Name, c); err != nil {
				t.Fatal(err)
			}
			if _, err := render.Render(f.Name, c.Peer()); err != nil {
				t.Fatal(err)
			}
		}
		again, err := render.Render("ip-xfrm", c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := foreign.Read("ip-xfrm", again.Body); err != nil && len(c.Notes) == 0 && format == "ip-xfrm" {
			t.Fatalf("%v", err)
		}
	})
}
