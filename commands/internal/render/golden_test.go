package render_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/commands/internal/render/rendertest"
)

// The keys of the cases: no other number has their digits.
const (
	aes128   = "0xaa0102030405060708090a0b0c0d0e0f"
	aes256   = "0xaa0102030405060708090a0b0c0d0e0faa1112131415161718191a1b1c1d1e1f"
	gcm128   = "0xaa0102030405060708090a0b0c0d0e0faa5a1700"
	gcm256   = "0xaa0102030405060708090a0b0c0d0e0faa1112131415161718191a1b1c1d1e1faa5a1701"
	hmac160  = "0xbb0102030405060708090a0b0c0d0e0fbb111213"
	hmac256  = "0xbb0102030405060708090a0b0c0d0e0fbb1112131415161718191a1b1c1d1e1f"
	attached = "tncfg --attach --virtual ipsec0 --physical eth0\n"
)

// A goldenCase is commands of the host 192.0.2.1 or 2001:db8::1, and what they make.
type goldenCase struct{ name, commands string }

func goldenCases() []goldenCase {
	// both returns the commands for both directions; > and < stand for the other end and
	// for this one.
	both := func(commands, here, there string) string {
		out := strings.NewReplacer("<", here, ">", there).Replace(commands)
		in := strings.NewReplacer("<", there, ">", here, "0x1", "0x2").Replace(commands)
		return out + in
	}
	const left, right, left6, right6 = "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"
	const nets = `
		eroute --add --src 10.0.1.0/24 --dst 10.0.2.0/24 --said tun0x1001@192.0.2.2
		eroute --addin --src 10.0.2.0/24 --dst 10.0.1.0/24 --said tun0x2001@192.0.2.1
	`
	return []goldenCase{
		{"tunnel", attached + both(`
			spi --said tun0x1001@> --ip4 --src < --dst >
			spi --said esp0x1002@> --esp aes128-sha1 --enckey `+aes128+` --authkey `+hmac160+` --src < --replay_window 64
			spigrp --said tun0x1001@> esp0x1002@>
		`, left, right) + nets},
		{"transport", both(`
			spi --said esp0x1002@> --esp aes256-sha2_256 --enckey `+aes256+` --authkey `+hmac256+` --src < --life soft-bytes=1000,hard-bytes=2000,hard-addtime=3600
		`, left, right) + `
			eroute --add --src 192.0.2.1/32 --dst 192.0.2.2/32 --transport-proto tcp --dst-port 80 --said esp0x1002@192.0.2.2
			eroute --addin --src 192.0.2.2/32 --dst 192.0.2.1/32 --transport-proto tcp --src-port 80 --said esp0x2002@192.0.2.1
			eroute --add --src 192.0.2.1/32 --dst 192.0.2.2/32 --transport-proto tcp,udp --dst-port 53 --said esp0x1002@192.0.2.2
			eroute --add --src 192.0.2.1/32 --dst 192.0.2.3/32 --said %pass
			eroute --add --src 192.0.2.1/32 --dst 192.0.2.4/32 --said %drop
			eroute --add --src 192.0.2.1/32 --dst 192.0.2.5/32 --said %reject
			eroute --add --src 192.0.2.1/32 --dst 192.0.2.6/32 --said %trap
		`},
		{"bundle", both(`
			spi --said tun0x1001@> --ip4 --src < --dst >
			spi --said esp0x1002@> --esp 3des-md5-96 --enckey 0xaa02030405060708aa02030405060709aa0203040506070b --authkey 0xbb0302030405060708090a0b0c0d0e0f
			spi --said ah0x1003@> --ah hmac-sha1-96 --authkey `+hmac160+` --replay_window 32 --align8
			spigrp --said tun0x1001@> esp0x1002@> ah0x1003@>
		`, left, right) + nets},
		{"ipv6", both(`
			spi --said tun0x1001@> --ip6 --src < --dst > --copy-tos
			spi --said esp0x1002@> --esp null-sha2_512 --authkey `+hmac256+hmac256[2:]+` --src < --replay_window 128
			spigrp --said tun0x1001@> esp0x1002@>
		`, left6, right6) + `
			eroute --add --src 2001:db8:1::/48 --dst 2001:db8:2::/48 --said tun0x1001@2001:db8::2
			eroute --add --src 10.0.1.0/24 --dst 10.0.2.0/24 --said tun0x1001@2001:db8::2
		`},
		{"aead", both(`
			spi --said tun0x1001@> --ip4 --src < --dst >
			spi --said esp0x1002@> --esp aes128-gcm --enckey `+gcm128+` --src < --replay_window 64 --seq 5
			spigrp --said tun0x1001@> esp0x1002@>
		`, left, right) + nets},
		{"chacha", both(`
			spi --said esp0x1002@> --esp chacha20-poly1305 --enckey `+gcm256+` --src <
		`, left, right) + `
			eroute --add --src 192.0.2.1/32 --dst 192.0.2.2/32 --said esp0x1002@192.0.2.2
		`},
		{"natt", both(`
			spi --said tun0x1001@> --ip4 --src < --dst >
			spi --said esp0x1002@> --esp aes128-sha1 --enckey `+aes128+` --authkey `+hmac160+` --src < --natt nonesp
			spigrp --said tun0x1001@> esp0x1002@>
		`, left, right) + nets},
		{"esn", both(`
			spi --said tun0x1001@> --ip4 --src < --dst >
			spi --said esp0x1002@> --esp aes256-gcm --enckey `+gcm256+` --src < --esn
			spigrp --said tun0x1001@> esp0x1002@>
		`, left, right) + nets},
		{"compressed", both(`
			spi --said tun0x1001@> --ip4 --src < --dst >
			spi --said comp0x1004@> --comp deflate --src <
			spi --said esp0x1002@> --esp aes128-sha2_256-96 --enckey `+aes128+` --authkey `+hmac256+` --src <
			spigrp --said tun0x1001@> comp0x1004@> esp0x1002@>
		`, left, right) + nets},
		{"odd", `
			spi --said tun0x1001@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2
			spi --said esp0x1002@192.0.2.2 --esp aes128-none --enckey ` + aes128 + `
			spi --said esp0x1003@192.0.2.3 --esp aes128-none --enckey ` + aes128 + ` --replay_window 64 --natt nonike
			eroute --add --src 10.0.1.0/24 --dst 10.0.2.0/24 --said tun0x1001@192.0.2.2
			eroute --add --src 10.0.1.0/24 --dst 10.0.3.0/24 --said esp0x1009@192.0.2.2
			eroute --add --src 10.0.1.0/24 --dst 10.0.4.0/24 --said esp0x1003@192.0.2.3
		`},
	}
}

// TestGolden writes each case in each language, and its other half. UPDATE=1 in the
// environment rewrites the files.
func TestGolden(t *testing.T) {
	for _, c := range goldenCases() {
		t.Run(c.name, func(t *testing.T) {
			h := rendertest.NewHost("192.0.2.1", "2001:db8::1")
			h.Do(t, c.commands)
			var b strings.Builder
			for _, f := range render.Formats() {
				for _, half := range []struct {
					name   string
					config *render.Config
				}{{f.Name, h.Config(t)}, {f.Name + " --peer", h.Config(t).Peer()}} {
					text, err := render.Render(f.Name, half.config)
					if err != nil {
						t.Fatal(err)
					}
					b.WriteString("-- " + half.name + " --\n" + string(text.Body))
					for _, n := range text.Notes {
						if !strings.Contains(string(text.Body), n.String()) {
							t.Errorf("%s: no comment for the note: %s", half.name, n)
						}
					}
				}
			}
			file := filepath.Join("testdata", c.name+".golden")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), b.String()); d != "" {
				t.Errorf("%s (-want +got, UPDATE=1 rewrites it)\n%s", file, d)
			}
		})
	}
}

// TestNotShown: without keys, a text has a word in place of each key, and nothing else
// differs.
func TestNotShown(t *testing.T) {
	for _, c := range goldenCases() {
		h := rendertest.NewHost("192.0.2.1", "2001:db8::1")
		h.Do(t, c.commands)
		for _, f := range render.Formats() {
			shown, _ := render.Render(f.Name, h.Config(t))
			bare := h.Config(t)
			want := string(shown.Body)
			for _, sa := range bare.SAs() {
				for _, key := range [][]byte{sa.EncKey, sa.AuthKey} {
					if len(key) > 4 {
						want = blank(want, key)
					}
				}
			}
			bare.Clear()
			hidden, _ := render.Render(f.Name, bare)
			if d := cmp.Diff(want, string(hidden.Body)); d != "" {
				t.Errorf("%s, %s: (-want +got)\n%s", c.name, f.Name, d)
			}
			if strings.Contains(string(hidden.Body), "aa0") || strings.Contains(string(hidden.Body), "bb0") {
				t.Errorf("%s, %s: a key is shown", c.name, f.Name)
			}
		}
	}
}

// TestClear: no key stays in a text or a Config.
func TestClear(t *testing.T) {
	h := rendertest.NewHost("192.0.2.1", "2001:db8::1")
	h.Do(t, goldenCases()[0].commands)
	c := h.Config(t)
	keys := [][]byte{c.SAs()[1].EncKey, c.SAs()[1].AuthKey}
	text, err := render.Render("ip-xfrm", c)
	if err != nil {
		t.Fatal(err)
	}
	all := text.Body[:cap(text.Body)]
	text.Clear()
	c.Clear()
	for _, b := range append(keys, all) {
		if strings.Trim(string(b), "\x00") != "" {
			t.Errorf("%q is left", b)
		}
	}
}

// TestFormat: an unknown language is an error that names the others.
func TestFormat(t *testing.T) {
	if _, err := render.Render("racoon", &render.Config{}); err == nil || !strings.Contains(err.Error(), "setkey") {
		t.Errorf("%v", err)
	}
}

// blank replaces a key, in the forms of all languages.
func blank(text string, key []byte) string {
	digits := hex.EncodeToString(key)
	text = strings.ReplaceAll(text, digits, render.NotShown)
	// VPP has the salt apart.
	n := len(digits) - 8
	return strings.ReplaceAll(text, "salt 0x"+digits[n:]+" crypto-key "+digits[:n], "salt 0x"+render.NotShown+" crypto-key "+render.NotShown)
}
