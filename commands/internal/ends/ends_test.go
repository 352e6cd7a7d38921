package ends

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/output"
)

var (
	here4, there4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	flow          = output.Flow{Source: netip.MustParsePrefix("10.1.0.0/16"), Destination: netip.MustParsePrefix("10.2.0.0/16")}
)

// pair returns the two ends of a tunnel that fit together.
func pair() (here, there *output.Barf) {
	end := func(own netip.Addr) *output.Barf {
		dir := func(dst netip.Addr) string {
			if dst == own {
				return "in"
			}
			return "out"
		}
		b := &output.Barf{Addresses: []netip.Addr{own}}
		for _, dst := range []netip.Addr{there4, here4} {
			src := here4
			if dst == here4 {
				src = there4
			}
			tun, esp := output.Name{SAID: "tun0x100@" + dst.String(), Protocol: "tun", SPI: 0x100, Destination: dst}, output.Name{SAID: "esp0x101@" + dst.String(), Protocol: "esp", SPI: 0x101, Destination: dst}
			b.SAs = append(b.SAs, output.SA{Name: tun, Source: src, Direction: dir(dst), Transform: "IPIP"},
				output.SA{Name: esp, Source: src, Direction: dir(dst), Transform: "ESP_AES_HMAC_SHA1", EncryptionKeyBits: 128, Authentication: "hmac-sha1-96", ReplayWindowPackets: 64, SequenceNumber: 100})
			g := output.Group{Direction: dir(dst), Members: []output.Name{tun, esp}}
			if dst == own {
				g.Members = []output.Name{esp, tun}
			}
			b.Groups = append(b.Groups, g)
			b.KeyFingerprints = append(b.KeyFingerprints, output.KeyFingerprint{SAID: esp.SAID, Use: "encryption", Fingerprint: "aa " + dst.String()})
		}
		return b
	}
	here, there = end(here4), end(there4)
	here.Eroutes = []output.Eroute{{Flow: flow, Action: "protect", SAID: "tun0x100@192.0.2.2"}}
	there.SAs[0].InboundPolicy = &output.Flow{Source: flow.Source, Destination: flow.Destination}
	return here, there
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(here, there *output.Barf)
		want string // in the differences; empty: there are none
	}{
		{"they fit", func(here, there *output.Barf) {}, ""},
		{"an SA of others", func(here, there *output.Barf) {
			here.SAs = append(here.SAs, output.SA{Name: output.Name{SAID: "esp0x900@198.51.100.1", Protocol: "esp", SPI: 0x900, Destination: netip.MustParseAddr("198.51.100.1")}, Source: here4, Direction: "out"})
		}, ""},
		{"another key", func(here, there *output.Barf) { there.KeyFingerprints[0].Fingerprint = "bb" }, "esp0x101@192.0.2.2: the encryption keys differ: their checks are aa 192.0.2.2 here and bb there"},
		{"a key that is not known", func(here, there *output.Barf) { there.KeyFingerprints = nil }, ""},
		{"another algorithm", func(here, there *output.Barf) { there.SAs[1].Transform = "ESP_AES_HMAC_MD5" }, "esp0x101@192.0.2.2: the algorithms are ESP_AES_HMAC_SHA1 here and ESP_AES_HMAC_MD5 there"},
		{"a shorter key", func(here, there *output.Barf) { there.SAs[1].EncryptionKeyBits = 256 }, "the encryption key has 128 bits here and 256 there"},
		{"ESN", func(here, there *output.Barf) { there.SAs[1].ExtendedSequenceNumbers = true }, "sequence numbers of 64 bits"},
		{"UDP", func(here, there *output.Barf) { there.SAs[1].UDPEncapsulation = &output.UDPEncapsulation{} }, "one end encapsulates in UDP"},
		{"another source", func(here, there *output.Barf) { there.SAs[1].Source = netip.MustParseAddr("192.0.2.7") }, "the source is 192.0.2.1 here and 192.0.2.7 there"},
		{"the sender has begun again", func(here, there *output.Barf) { there.SAs[1].SequenceNumber = 1 << 20 }, "the end that sends (here) has begun again with its numbers: it is at 100, and the other one has received up to 1048576"},
		{"the other sender has begun again", func(here, there *output.Barf) { here.SAs[3].SequenceNumber = 1 << 20 }, "the end that sends (there) has begun again"},
		{"no window", func(here, there *output.Barf) { there.SAs[1].ReplayWindowPackets = 0 }, "esp0x101@192.0.2.2: the end that receives has no replay window"},
		{"no window where it does not count", func(here, there *output.Barf) { here.SAs[1].ReplayWindowPackets = 0 }, ""},
		{"both send", func(here, there *output.Barf) { there.SAs[1].Direction = "out" }, "both ends take it for an SA to send"},
		{"missing there", func(here, there *output.Barf) {
			there.SAs, there.Groups = append(there.SAs[:1:1], there.SAs[2:]...), here.Groups
		}, "esp0x101@192.0.2.2: it exists here and not there"},
		{"another SPI", func(here, there *output.Barf) { there.SAs[1].SAID, there.SAs[1].SPI = "esp0x102@192.0.2.2", 0x102 }, "there is esp0x102@192.0.2.2 there: its SPI is another one"},
		{"another order", func(here, there *output.Barf) {
			m := there.Groups[0].Members
			m[0], m[1] = m[1], m[0]
		}, "tun0x100@192.0.2.2 esp0x101@192.0.2.2: the group there is esp0x101@192.0.2.2 tun0x100@192.0.2.2"},
		{"another policy", func(here, there *output.Barf) {
			there.SAs[0].InboundPolicy.Source = netip.MustParsePrefix("10.7.0.0/16")
		}, "10.1.0.0/16 -> 10.2.0.0/16: the eroute here is to tun0x100@192.0.2.2, and the inbound policy of that there is 10.7.0.0/16 -> 10.2.0.0/16"},
		{"a wider policy", func(here, there *output.Barf) {
			there.SAs[0].InboundPolicy.Source = netip.MustParsePrefix("10.0.0.0/8")
		}, ""},
		{"a policy for a port", func(here, there *output.Barf) {
			there.SAs[0].InboundPolicy.TransportProtocol, there.SAs[0].InboundPolicy.DestinationPort = 6, 80
		}, "proto 6 ports 0 to 80"},
	} {
		here, there := pair()
		tt.edit(here, there)
		var text strings.Builder
		for _, d := range Compare(here, there) {
			if d.Mend == "" {
				t.Errorf("%s: %+v has no remedy", tt.name, d)
			}
			text.WriteString(d.What + ": " + d.Difference + " (" + d.Mend + ")\n")
		}
		if (tt.want == "") != (text.Len() == 0) || !strings.Contains(text.String(), tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, &text, tt.want)
		}
	}
}

// With a NAT on the way each end has the addresses that it sees, and they fit together. What is
// wrong besides is found.
func TestCompareNAT(t *testing.T) {
	outside := netip.MustParseAddr("198.51.100.9")
	natted := func() (here, there *output.Barf) {
		here, there = pair()
		for _, b := range []*output.Barf{here, there} {
			for i := range b.SAs {
				if b.SAs[i].Protocol == "esp" {
					b.SAs[i].UDPEncapsulation = &output.UDPEncapsulation{Form: "nonesp", SourcePort: 4500, DestinationPort: 4500}
				}
			}
		}
		// The other end has the address of the NAT in place of that of this one.
		rename := func(n *output.Name) {
			if n.Destination == here4 {
				n.Destination, n.SAID = outside, strings.Replace(n.SAID, here4.String(), outside.String(), 1)
			}
		}
		for i := range there.SAs {
			rename(&there.SAs[i].Name)
			if there.SAs[i].Source == here4 {
				there.SAs[i].Source = outside
			}
		}
		for _, g := range there.Groups {
			for i := range g.Members {
				rename(&g.Members[i])
			}
		}
		for i := range there.KeyFingerprints {
			k := &there.KeyFingerprints[i]
			k.SAID, k.Fingerprint = strings.Replace(k.SAID, here4.String(), outside.String(), 1), "of another SAID"+k.Fingerprint
		}
		there.KeyFingerprints[0].Fingerprint = here.KeyFingerprints[0].Fingerprint // its SAID is the same on both ends
		there.Eroutes = []output.Eroute{{Flow: output.Flow{Source: flow.Destination, Destination: flow.Source}, Action: "protect", SAID: "tun0x100@198.51.100.9"}}
		return here, there
	}
	for _, swap := range []bool{false, true} {
		here, there := natted()
		if swap {
			here, there = there, here
		}
		if l := Compare(here, there); len(l) != 0 {
			t.Errorf("swapped %v: %+v", swap, l)
		}
		here, there = natted()
		there.SAs[3].Transform = "ESP_AES_HMAC_MD5"
		if swap {
			here, there = there, here
		}
		if l := Compare(here, there); len(l) != 1 || !strings.Contains(l[0].Difference, "the algorithms are") {
			t.Errorf("swapped %v, another algorithm: %+v", swap, l)
		}
	}
}

func TestParse(t *testing.T) {
	whole := output.BarfList{Head: output.NewHead("user"), Ends: []output.Barf{{Host: "gw2", Program: "1.2.3"}}}
	b, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"JSON": string(b), "text": "ipsec barf\n\n==== look ====\n{}\n==== json ====\n" + string(b) + "\n", "another section with its name": "==== json ====\n{\n\n==== json ====\n" + string(b),
	} {
		if got, err := Parse([]byte(text)); err != nil || got.Host != "gw2" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	// What another host sends cannot make lines of its own.
	whole.Ends[0].SAs = []output.SA{{Transform: "ESP\n  mend     rm\x1b[2J"}}
	b2, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(b2); err != nil || got.SAs[0].Transform != `ESP\n  mend     rm\x1b[2J` {
		t.Errorf("lines in a text: %+v, %v", got, err)
	}
	whole.Schema = 99
	if b2, err = json.Marshal(whole); err != nil {
		t.Fatal(err)
	}
	var later *SchemaError
	if got, err := Parse(b2); !errors.As(err, &later) || later.Schema != 99 {
		t.Errorf("schema 99: %+v, %v", got, err)
	}
	for _, text := range []string{"", "{}", "hello", `{"schema":1,"stack":"user","barf":[{}]}`, "x\n==== json ====\n" + string(b[:len(b)-3])} {
		if got, err := Parse([]byte(text)); !errors.Is(err, ErrNone) {
			t.Errorf("%q: %+v, %v, want ErrNone", text, got, err)
		}
	}
}

// What others send does not make the reader fail, nor the comparison.
func FuzzParse(f *testing.F) {
	here, there := pair()
	there.Program = "1.2.3"
	b, _ := json.Marshal(output.BarfList{Head: output.NewHead("user"), Ends: []output.Barf{*there}})
	f.Add(b)
	f.Add([]byte("x\n==== json ====\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if there, err := Parse(b); err == nil {
			Compare(here, there)
		}
	})
}
