package syntax

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
)

// eachGolden calls f for every recorded command line of a tool, of all
// generations.
func eachGolden(t *testing.T, tool string, f func(c *recorded.Command)) {
	t.Helper()
	for c := range recorded.Commands(t) {
		if c.Tool == tool && !c.Undefined {
			f(c)
		}
	}
}

// resolverOf returns the resolver of a generation for names in SAIDs and subnets.
func resolverOf(c *recorded.Command) Resolver {
	if c.Impl == recorded.Openswan300 {
		return goldenResolver
	}
	return nil
}

// goldenResolver knows the names in the recordings.
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
func extensions(t *testing.T, c *recorded.Command, n int) map[uint16][]byte {
	t.Helper()
	m := map[uint16][]byte{}
	for b := c.Messages[n][16:]; len(b) >= 8; {
		size := int(binary.LittleEndian.Uint16(b)) * 8
		if size == 0 || size > len(b) {
			t.Fatalf("%s: extension of %d bytes, %d left", c.ID, size, len(b))
		}
		m[binary.LittleEndian.Uint16(b[2:])] = b[:size]
		b = b[size:]
	}
	return m
}

func extSPI(ext []byte) klips.SPI { return klips.SPI(binary.BigEndian.Uint32(ext[4:])) }

// extAddr reads the sockaddr of an address extension.
func extAddr(ext []byte) netip.Addr {
	if binary.LittleEndian.Uint16(ext[8:]) == 2 {
		return netip.AddrFrom4([4]byte(ext[12:16]))
	}
	return netip.AddrFrom16([16]byte(ext[16:32]))
}

// overlongSPI matches SAIDs whose SPI the originals cut to 32 bits.
var overlongSPI = regexp.MustCompile(`^(?i:ah|esp|tun|comp|int|icmp)([.:]0*[0-9a-fA-F]{9,}|0x0*[0-9a-fA-F]{9,}|[1-9][0-9]{9,}|04[0-9]{10,})@`)

func TestGoldenSpigrp(t *testing.T) {
	accepted, refused := 0, 0
	eachGolden(t, "spigrp", func(c *recorded.Command) {
		r := resolverOf(c)
		if c.Fault != nil {
			if spigrpFault(t, c, r) {
				refused++
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
			if got, want := ids[i], (klips.SAID{Dst: extAddr(m[6]), SPI: extSPI(m[1]), Proto: ids[i].Proto}); got != want {
				t.Errorf("%s %q: SA %d read as %v, sent as %v", c.ID, c.Args, i, got, want)
			}
			if m[19] == nil {
				continue
			}
			if got, want := ids[i+1], (klips.SAID{Dst: extAddr(m[20]), SPI: extSPI(m[19]), Proto: ids[i+1].Proto}); got != want {
				t.Errorf("%s %q: SA %d read as %v, sent as %v", c.ID, c.Args, i+1, got, want)
			}
		}
	})
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 300 || refused < 300 {
		t.Errorf("only %d accepted and %d refused command lines were compared", accepted, refused)
	}
}

// spigrpFault checks that the argument that spigrp refused is refused. It returns
// whether there was one to check.
func spigrpFault(t *testing.T, c *recorded.Command, r Resolver) bool {
	t.Helper()
	text := c.Fault.Text
	var err error
	switch c.Fault.Kind {
	case recorded.FaultValue: // of --said
		_, err = ParseSAID(text, r)
		if c.Impl == recorded.Openswan300 && err == nil && text != strings.ToLower(text) {
			return false // the later generation accepts capitals
		}
	case recorded.FaultAddress:
		// The argument before the text is its family.
		if c.Args[0] != "inet" && c.Args[0] != "inet6" {
			return false
		}
		for i, a := range c.Args[1:] {
			if f, ferr := ParseFamily(c.Args[i]); a == text && ferr == nil {
				_, err = ParseAddr(text, f, goldenResolver)
				break
			}
		}
	case recorded.FaultProto:
		_, err = ParseProto(text)
	case recorded.FaultSPI:
		if c.Impl == recorded.Openswan300 {
			return false // it reads numbers with strtoul
		}
		_, err = ParseNumber(text, 0, 0xffffffff)
	default:
		t.Errorf("%s %q: unknown fault %+v", c.ID, c.Args, c.Fault)
	}
	if err == nil {
		t.Errorf("%s %q: %q was read, the original refused it as %s", c.ID, c.Args, text, c.Fault.Kind)
	}
	return true
}

// spigrpSAIDs parses the SAs of a command line that the original accepted.
func spigrpSAIDs(t *testing.T, c *recorded.Command, r Resolver) ([]klips.SAID, bool) {
	args := c.Args
	for len(args) > 0 && (args[0] == "--debug" || args[0] == "--label") {
		if args[0] == "--label" {
			args = args[1:]
		}
		args = args[1:]
	}
	var ids []klips.SAID
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
			if c.Impl != recorded.Openswan300 { // it reads numbers with strtoul
				t.Errorf("%s: ParseNumber(%q): %v", c.ID, args[2], err)
			}
			return nil, false
		}
		p, err := ParseProto(args[3])
		if err != nil {
			t.Errorf("%s: ParseProto(%q): %v", c.ID, args[3], err)
			return nil, false
		}
		ids = append(ids, klips.SAID{Dst: a, SPI: klips.SPI(spi), Proto: p})
	}
	return ids, true
}

func TestGoldenEroute(t *testing.T) {
	port := regexp.MustCompile(`/[^:]*:[0-9]+$`)
	quirkMask := regexp.MustCompile(`^[0-9.]+/(128|192|224|240|248|252|254|255)$`)
	accepted, refused := 0, 0
	eachGolden(t, "eroute", func(c *recorded.Command) {
		r := resolverOf(c)
		f, _ := ParseFamily(c.Option("--eraf"))
		if c.Fault != nil {
			refused++
			erouteFault(t, c, f, r)
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
			text := c.Option(opt)
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
		if text := c.Option("--said"); text != "" && m[1] != nil {
			checkGoldenSAID(t, c, m, text, r)
		}
	})
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 1000 || refused < 100 {
		t.Errorf("only %d accepted and %d refused subnets were compared", accepted, refused)
	}
}

// erouteFault checks that the argument that eroute refused is refused. f is the family
// in --eraf.
func erouteFault(t *testing.T, c *recorded.Command, f Family, r Resolver) {
	t.Helper()
	text := c.Fault.Text
	var err error
	switch c.Fault.Option {
	case "--src", "--dst":
		_, err = ParseSubnet(text, f, r)
		if err == nil && f != FamilyAny { // given too late to have an effect
			_, err = ParseSubnet(text, FamilyAny, r)
		}
	case "--edst":
		af, _ := ParseFamily(c.Option("--af"))
		_, err = ParseAddr(text, af, goldenResolver)
		if err == nil && af != FamilyAny {
			_, err = ParseAddr(text, FamilyAny, goldenResolver)
		}
	case "--said":
		if c.Impl == recorded.Openswan300 && text != strings.ToLower(text) {
			return // the later generation accepts capitals
		}
		_, err = ParseSAID(text, r)
	}
	if err == nil {
		t.Errorf("%s %q: %s %q was read, the original refused it", c.ID, c.Args, c.Fault.Option, text)
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

func checkGoldenSAID(t *testing.T, c *recorded.Command, m map[uint16][]byte, text string, r Resolver) {
	t.Helper()
	id, err := ParseSAID(text, r)
	if err != nil {
		if !overlongSPI.MatchString(text) {
			t.Errorf("%s: ParseSAID(%q): %v, but the original took it", c.ID, text, err)
		}
		return
	}
	want := klips.SAID{Dst: id.Dst, SPI: extSPI(m[1]), Proto: id.Proto}
	if m[6] != nil {
		want.Dst = extAddr(m[6])
	}
	if id != want {
		t.Errorf("%s: ParseSAID(%q) = %v, sent as %v", c.ID, text, id, want)
	}
}
