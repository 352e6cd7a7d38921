package klips

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A goldenCase is one recorded run of an original tool.
type goldenCase struct {
	ID       string            `json:"id"`
	Impl     string            `json:"impl"`
	Tool     string            `json:"tool"`
	Args     []string          `json:"args"`
	Env      map[string]string `json:"env"`
	Exit     int               `json:"exit"`
	UB       bool              `json:"ub"`
	Stderr   string            `json:"stderr"`
	Plain    *string           `json:"stderr_plain"`
	Messages []string          `json:"messages"`
}

func (c *goldenCase) errText() string {
	if c.Plain != nil {
		return *c.Plain
	}
	return c.Stderr
}

// openswan reports whether the case is from the generation that looks names of
// SAIDs and subnets up.
func (c *goldenCase) openswan() bool { return strings.HasPrefix(c.Impl, "openswan") }

// eachGolden calls f for every recorded case of the tools named.
func eachGolden(t *testing.T, f func(c *goldenCase), tools ...string) {
	t.Helper()
	dir := filepath.Join("..", "..", "shared", "golden")
	for _, name := range []string{"dev.jsonl", "dev-older.jsonl"} {
		file, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Skipf("no recordings of the original tools: %v", err)
		}
		sc := bufio.NewScanner(file)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			c := new(goldenCase)
			if err := json.Unmarshal(sc.Bytes(), c); err != nil {
				t.Fatal(err)
			}
			for _, tool := range tools {
				if c.Tool == tool && !c.UB {
					f(c)
				}
			}
		}
		if err := sc.Err(); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
}

// goldenResolver knows the names that the recordings know.
func goldenResolver(name string, f Family) (netip.Addr, error) {
	known := map[string]string{"gw1": "10.1.1.1", "gw2": "10.2.2.2", "gw6": "3049:1::1"}
	if s, ok := known[strings.ToLower(name)]; ok {
		if a := netip.MustParseAddr(s); f == FamilyAny || FamilyOf(a) == f {
			return a, nil
		}
	}
	return netip.Addr{}, errors.New("no such host")
}

// extensions splits a PF_KEY message by extension type.
func extensions(t *testing.T, c *goldenCase, n int) map[uint16][]byte {
	t.Helper()
	b, err := hex.DecodeString(c.Messages[n])
	if err != nil {
		t.Fatalf("%s: %v", c.ID, err)
	}
	m := map[uint16][]byte{}
	for b = b[16:]; len(b) >= 8; {
		size := int(binary.LittleEndian.Uint16(b)) * 8
		if size == 0 || size > len(b) {
			t.Fatalf("%s: extension of %d bytes, %d left", c.ID, size, len(b))
		}
		m[binary.LittleEndian.Uint16(b[2:])] = b[:size]
		b = b[size:]
	}
	return m
}

func extSPI(ext []byte) SPI { return SPI(binary.BigEndian.Uint32(ext[4:])) }

// extAddr reads the sockaddr of an address extension.
func extAddr(ext []byte) netip.Addr {
	if binary.LittleEndian.Uint16(ext[8:]) == 2 {
		return netip.AddrFrom4([4]byte(ext[12:16]))
	}
	return netip.AddrFrom16([16]byte(ext[16:32]))
}

var complaint = regexp.MustCompile(`(?m)Error, (.*) converting (?:(--\w+) argument:|\d+th address argument:)(.*)$`)

// overlongSPI matches SAIDs whose SPI the originals cut to 32 bits.
var overlongSPI = regexp.MustCompile(`^(?i:ah|esp|tun|comp|int|icmp)([.:]0*[0-9a-fA-F]{9,}|0x0*[0-9a-fA-F]{9,}|[1-9][0-9]{9,}|04[0-9]{10,})@`)

func TestGoldenSpigrp(t *testing.T) {
	accepted, refused := 0, 0
	eachGolden(t, func(c *goldenCase) {
		r := Resolver(nil)
		if c.openswan() {
			r = goldenResolver
		}
		if m := complaint.FindStringSubmatch(c.errText()); m != nil {
			text := m[3]
			refused++
			var err error
			if m[2] != "" {
				_, err = ParseSAID(text, r)
				if c.openswan() && err == nil && text != strings.ToLower(text) {
					return // the later generation takes capitals
				}
			} else if c.Args[0] == "inet" || c.Args[0] == "inet6" {
				// The family is that of the argument before the text.
				for i, a := range c.Args[1:] {
					if a == text {
						if f, ferr := ParseFamily(c.Args[i]); ferr == nil {
							_, err = ParseAddr(text, f, goldenResolver)
							break
						}
					}
				}
			} else {
				return
			}
			if err == nil {
				t.Errorf("%s %q: %q was read, the original said %s", c.ID, c.Args, text, m[1])
			}
			return
		}
		if bad, ok := strings.CutPrefix(c.errText(), c.Tool+": Badly formed proto: "); ok {
			refused++
			if _, err := ParseProto(strings.TrimSuffix(bad, "\n")); err == nil {
				t.Errorf("%s: ParseProto(%q) succeeded", c.ID, bad)
			}
			return
		}
		if strings.Contains(c.errText(), "Badly formed spi") && !c.openswan() {
			refused++
			bad := regexp.MustCompile(`"(.*)"`).FindStringSubmatch(c.errText())[1]
			if _, err := ParseNumber(bad, 0, 0xffffffff); err == nil {
				t.Errorf("%s: ParseNumber(%q) succeeded", c.ID, bad)
			}
			return
		}
		if len(c.Messages) == 0 {
			return
		}
		ids, ok := spigrpSAIDs(t, c, r)
		if !ok {
			return
		}
		accepted++
		for n := range c.Messages {
			m := extensions(t, c, n)
			i := n
			if got, want := ids[i], (SAID{extAddr(m[6]), extSPI(m[1]), ids[i].Proto}); got != want {
				t.Errorf("%s %q: SA %d read as %v, sent as %v", c.ID, c.Args, i, got, want)
			}
			if m[19] == nil {
				continue
			}
			if got, want := ids[i+1], (SAID{extAddr(m[20]), extSPI(m[19]), ids[i+1].Proto}); got != want {
				t.Errorf("%s %q: SA %d read as %v, sent as %v", c.ID, c.Args, i+1, got, want)
			}
		}
	}, "spigrp")
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 300 || refused < 300 {
		t.Errorf("only %d accepted and %d refused command lines were compared", accepted, refused)
	}
}

// spigrpSAIDs reads the SAs of a command line that the original accepted.
func spigrpSAIDs(t *testing.T, c *goldenCase, r Resolver) ([]SAID, bool) {
	args := c.Args
	for len(args) > 0 && (args[0] == "--debug" || args[0] == "--label") {
		if args[0] == "--label" {
			args = args[1:]
		}
		args = args[1:]
	}
	var ids []SAID
	if len(args) > 0 && args[0] == "--said" {
		for _, a := range args[1:] {
			id, err := ParseSAID(a, r)
			if err != nil {
				if !overlongSPI.MatchString(a) && !strings.HasPrefix(strings.ToLower(a), "icmp") {
					t.Errorf("%s: ParseSAID(%q): %v, but the original took it", c.ID, a, err)
				}
				return nil, false
			}
			ids = append(ids, id)
		}
		return ids, true
	}
	for ; len(args) >= 4; args = args[4:] {
		f, err := ParseFamily(args[0])
		if err != nil {
			t.Errorf("%s: ParseFamily(%q): %v", c.ID, args[0], err)
			return nil, false
		}
		a, err := ParseAddr(args[1], f, goldenResolver)
		if err != nil {
			t.Errorf("%s: ParseAddr(%q, %v): %v", c.ID, args[1], f, err)
			return nil, false
		}
		spi, err := ParseNumber(args[2], 0, 0xffffffff)
		if err != nil {
			if !c.openswan() { // it reads numbers with strtoul
				t.Errorf("%s: ParseNumber(%q): %v", c.ID, args[2], err)
			}
			return nil, false
		}
		p, err := ParseProto(args[3])
		if err != nil {
			t.Errorf("%s: ParseProto(%q): %v", c.ID, args[3], err)
			return nil, false
		}
		ids = append(ids, SAID{a, SPI(spi), p})
	}
	return ids, true
}

// optionValue returns the last value of an option that is given with its whole
// name, "" if it is not given.
func optionValue(args []string, name string) string {
	v := ""
	for i, a := range args {
		if a == name && i+1 < len(args) {
			v = args[i+1]
		}
		if s, ok := strings.CutPrefix(a, name+"="); ok {
			v = s
		}
	}
	return v
}

func TestGoldenEroute(t *testing.T) {
	port := regexp.MustCompile(`/[^:]*:[0-9]+$`)
	quirkMask := regexp.MustCompile(`^[0-9.]+/(128|192|224|240|248|252|254|255)$`)
	accepted, refused := 0, 0
	eachGolden(t, func(c *goldenCase) {
		r := Resolver(nil)
		if c.openswan() {
			r = goldenResolver
		}
		f, _ := ParseFamily(optionValue(c.Args, "--eraf"))
		if m := complaint.FindStringSubmatch(c.errText()); m != nil {
			refused++
			var err error
			switch m[2] {
			case "--src", "--dst":
				m[3] = strings.TrimPrefix(m[3], " ")
				_, err = ParseSubnet(m[3], f, r)
				if err == nil && f != FamilyAny { // given too late to count
					_, err = ParseSubnet(m[3], FamilyAny, r)
				}
			case "--edst":
				af, _ := ParseFamily(optionValue(c.Args, "--af"))
				_, err = ParseAddr(m[3], af, goldenResolver)
				if err == nil && af != FamilyAny {
					_, err = ParseAddr(m[3], FamilyAny, goldenResolver)
				}
			case "--sa":
				if c.openswan() && m[3] != strings.ToLower(m[3]) {
					return
				}
				_, err = ParseSAID(m[3], r)
			}
			if err == nil {
				t.Errorf("%s %q: %s %q was read, the original said %s", c.ID, c.Args, m[2], m[3], m[1])
			}
			return
		}
		if len(c.Messages) != 1 || c.Exit != 0 {
			return
		}
		m := extensions(t, c, 0)
		if m[21] == nil {
			return
		}
		for i, opt := range []string{"--src", "--dst"} {
			text := optionValue(c.Args, opt)
			if text == "" {
				continue // abbreviated
			}
			p, err := ParseSubnet(text, f, r)
			if err != nil && f != FamilyAny {
				p, err = ParseSubnet(text, FamilyAny, r)
			}
			if err != nil {
				if !port.MatchString(text) && !quirkMask.MatchString(text) {
					t.Errorf("%s: ParseSubnet(%q, %v): %v, but the original took it", c.ID, text, f, err)
				}
				continue
			}
			accepted++
			mask := netip.PrefixFrom(extAddr(m[uint16(23+i)]), p.Addr().BitLen())
			want := netip.PrefixFrom(extAddr(m[uint16(21+i)]), onesOf(mask.Addr()))
			if p != want {
				t.Errorf("%s: ParseSubnet(%q, %v) = %v, sent as %v", c.ID, text, f, p, want)
			}
		}
		if text := optionValue(c.Args, "--said"); text != "" && m[1] != nil {
			checkGoldenSAID(t, c, m, text, r)
		}
	}, "eroute")
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 1000 || refused < 100 {
		t.Errorf("only %d accepted and %d refused subnets were compared", accepted, refused)
	}
}

func onesOf(a netip.Addr) int {
	n := 0
	for _, b := range a.AsSlice() {
		for ; b != 0; b <<= 1 {
			n++
		}
	}
	return n
}

func checkGoldenSAID(t *testing.T, c *goldenCase, m map[uint16][]byte, text string, r Resolver) {
	t.Helper()
	id, err := ParseSAID(text, r)
	if err != nil {
		if !overlongSPI.MatchString(text) {
			t.Errorf("%s: ParseSAID(%q): %v, but the original took it", c.ID, text, err)
		}
		return
	}
	want := SAID{id.Dst, extSPI(m[1]), id.Proto}
	if m[6] != nil {
		want.Dst = extAddr(m[6])
	}
	if id != want {
		t.Errorf("%s: ParseSAID(%q) = %v, sent as %v", c.ID, text, id, want)
	}
}

func TestGoldenSpi(t *testing.T) {
	accepted, refused := 0, 0
	keyComplaint := regexp.MustCompile(`(?:malformed|syntax error in|must have a) `)
	eachGolden(t, func(c *goldenCase) {
		r := Resolver(nil)
		if c.Impl != "libreswan-3.32" {
			r = goldenResolver
		}
		if m := complaint.FindStringSubmatch(c.errText()); m != nil && m[2] != "" {
			refused++
			f, _ := ParseFamily(optionValue(c.Args, "--af"))
			var err error
			if m[2] == "--sa" {
				if c.openswan() && m[3] != strings.ToLower(m[3]) {
					return
				}
				_, err = ParseSAID(m[3], r)
			} else {
				fams := []Family{f, FamilyAny}
				for _, a := range c.Args {
					switch a {
					case "--ip6":
						fams = append(fams, Family6)
					case "--ip4":
						fams = append(fams, Family4)
					}
				}
				if text := optionValue(c.Args, "--said"); text != "" {
					id, _ := ParseSAID(text, r)
					fams = append(fams, FamilyOf(id.Dst))
				}
				for _, fam := range fams {
					if _, err = ParseAddr(m[3], fam, r); err != nil {
						break
					}
				}
			}
			if err == nil {
				t.Errorf("%s %q: %s %q was read, the original said %s", c.ID, c.Args, m[2], m[3], m[1])
			}
			return
		}
		keys := []string{optionValue(c.Args, "--authkey"), optionValue(c.Args, "--enckey"), optionValue(c.Args, "--iv")}
		if keyComplaint.MatchString(c.errText()) {
			refused++
			bad := false
			for _, k := range keys {
				if _, err := ParseKey(k); err != nil {
					bad = true
				}
				if c.openswan() && len(k) > 1 && (k[1] == 'X' || k[1] == 'S' || k[1] == 'T') {
					bad = true // read by the later generation
				}
			}
			if !bad {
				t.Errorf("%s %q: all keys were read, the original said %s", c.ID, c.Args, c.errText())
			}
			return
		}
		if len(c.Messages) != 1 || c.Exit != 0 {
			return
		}
		m := extensions(t, c, 0)
		if text := optionValue(c.Args, "--said"); text != "" && m[6] != nil {
			accepted++
			checkGoldenSAID(t, c, m, text, r)
		}
		for i, k := range keys[:2] {
			ext := m[uint16(8+i)]
			if ext == nil || k == "" {
				continue
			}
			accepted++
			got, err := ParseKey(k)
			if err != nil {
				t.Errorf("%s: ParseKey of a key the original took: %v", c.ID, err)
				continue
			}
			bits := int(binary.LittleEndian.Uint16(ext[4:]))
			if want := ext[8 : 8+bits/8]; !bytes.Equal(got, want) {
				t.Errorf("%s: ParseKey(%q) = %x, sent as %x", c.ID, k, got, want)
			}
		}
		if name := optionValue(c.Args, "--esp"); name != "" && m[1] != nil {
			tr, bits, err := ParseESP(name)
			if err != nil {
				if !unsupportedESP(name) {
					t.Errorf("%s: ParseESP(%q): %v, but the original took it", c.ID, name, err)
				}
				return
			}
			accepted++
			auth, enc := AuthAlg(m[1][10]), EncAlg(m[1][11])
			if tr.Auth != auth || tr.Enc != enc {
				t.Errorf("%s: ParseESP(%q) = %+v, sent as auth %d enc %d", c.ID, name, tr, auth, enc)
			}
			if key, _ := ParseKey(keys[1]); bits != 0 && len(key)*8 != bits && !tr.aead() && c.Env["KLIPS_PROC"] != "nosupp" {
				t.Errorf("%s: ParseESP(%q) demands %d bits, the original took %d", c.ID, name, bits, len(key)*8)
			}
		}
	}, "spi")
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 500 || refused < 100 {
		t.Errorf("only %d accepted and %d refused texts were compared", accepted, refused)
	}
}

func (t Transform) aead() bool {
	i, _ := t.Enc.Info()
	return i.AEAD
}

// unsupportedESP matches names of ciphers that no stack here has.
func unsupportedESP(name string) bool {
	for _, s := range []string{"ctr", "ccm", "twofish", "serpent", "camellia", ";modp", " aes"} {
		if strings.Contains(name, s) {
			return true
		}
	}
	return false
}

// TestGoldenESPRefused holds what --esp names both older generations refuse
// against ParseESP; the exceptions are abilities that came later.
func TestGoldenESPRefused(t *testing.T) {
	type verdict struct{ taken, refused bool }
	seen := map[string]*verdict{}
	eachGolden(t, func(c *goldenCase) {
		name := optionValue(c.Args, "--esp")
		if c.Impl == "libreswan-3.32" || name == "" || strings.HasPrefix(name, "--") {
			return
		}
		v := seen[name]
		if v == nil {
			v = new(verdict)
			seen[name] = v
		}
		if c.Exit == 0 {
			v.taken = true
		} else if strings.Contains(c.errText(), "'"+name+"' follows '--esp'") {
			v.refused = true
		}
	}, "spi")
	later := map[string]bool{
		"3des-sha1": true, "null-sha1": true, // refused for their keys
		"aes_gcm_c128-null": true, "aes128-none": true, "aes128-sha1-96": true, "aes_gcm256": true, "chacha20_poly1305": true,
	}
	n := 0
	for name, v := range seen {
		_, _, err := ParseESP(name)
		switch {
		case v.refused && !v.taken && err == nil && !later[name]:
			t.Errorf("ParseESP(%q) succeeded, but all originals refuse it", name)
		case v.taken && err != nil && !unsupportedESP(name):
			t.Errorf("ParseESP(%q): %v, but an original takes it", name, err)
		}
		n++
	}
	if n < 40 {
		t.Errorf("only %d names were compared", n)
	}
}
