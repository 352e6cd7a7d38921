package interop

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/ipip"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A peer is a running testdata/scapy_peer.py.
type peer struct {
	in  io.Writer
	out *bufio.Reader
}

type request struct {
	Op     string   `json:"op"`
	Proto  string   `json:"proto"`
	SPI    uint32   `json:"spi"`
	Seq    uint64   `json:"seq"`
	ESN    bool     `json:"esn"`
	Crypt  string   `json:"crypt"`
	CKey   string   `json:"ckey"`
	Auth   string   `json:"auth"`
	AKey   string   `json:"akey"`
	Tunnel []string `json:"tunnel"`
	Packet string   `json:"packet"`
}

// startPeer starts scapy; without it the test is skipped.
func startPeer(t *testing.T) *peer {
	t.Helper()
	python := ""
	for _, p := range []string{"/usr/bin/python3", "python3"} { // Debian's python3 has python3-scapy
		if exec.Command(p, "-c", "import scapy.layers.ipsec, cryptography").Run() == nil {
			python = p
			break
		}
	}
	if python == "" {
		skip.Without(t, skip.Scapy, "no python3 has both (Debian: python3-scapy, python3-cryptography)")
	}
	cmd := exec.Command(python, "testdata/scapy_peer.py")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("scapy: %v", err)
		}
	})
	return &peer{in, bufio.NewReader(out)}
}

// do makes scapy seal or open a packet.
func (p *peer) do(q request, pkt []byte) ([]byte, error) {
	q.Packet = hex.EncodeToString(pkt)
	b, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return nil, err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var r struct{ Packet, Error string }
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, err
	}
	if r.Error != "" {
		return nil, fmt.Errorf("scapy: %s", r.Error)
	}
	return hex.DecodeString(r.Packet)
}

var scapyCrypt = map[alg.Enc]string{alg.TripleDES: "3DES", alg.Null: "NULL", alg.AES: "AES-CBC",
	alg.AESGCM: "AES-GCM", alg.ChaCha20Poly1305: "CHACHA20-POLY1305"}

var scapyAuth = map[alg.Auth]string{alg.AuthNone: "NULL", alg.MD5: "HMAC-MD5-96", alg.SHA1: "HMAC-SHA1-96",
	alg.SHA256: "SHA2-256-128", alg.SHA384: "SHA2-384-192", alg.SHA512: "SHA2-512-256", alg.SHA256Trunc: "SHA2-256-96"}

func testKey(bits int, first byte) []byte {
	k := make([]byte, bits/8)
	for i := range k {
		k[i] = first + byte(i)*5
	}
	return k
}

// A mode is transport or a kind of tunnel. inner is the IP version of the protected
// packet.
type mode struct {
	name     string
	inner    int
	src, dst netip.Addr // of the tunnel
}

var modes = []mode{
	{name: "transport 4", inner: 4},
	{name: "transport 6", inner: 6},
	{"tunnel 4 in 4", 4, netip.MustParseAddr("192.1.2.23"), netip.MustParseAddr("192.1.2.45")},
	{"tunnel 6 in 4", 6, netip.MustParseAddr("192.1.2.23"), netip.MustParseAddr("192.1.2.45")},
	{"tunnel 4 in 6", 4, netip.MustParseAddr("2001:db8:9::23"), netip.MustParseAddr("2001:db8:9::45")},
	{"tunnel 6 in 6", 6, netip.MustParseAddr("2001:db8:9::23"), netip.MustParseAddr("2001:db8:9::45")},
}

// exchange sends packets of several lengths in both directions: scapy opens the packets
// of sealOurs, and openOurs those that scapy sealed. A tunnel's outer header is added
// and removed here. Extended sequence numbers cross the border of their low half.
func exchange(t *testing.T, p *peer, q request, m mode, sealOurs func(*packet.Buffer, *packet.Header, uint64) error, openOurs func(*packet.Buffer, *packet.Header, uint64) error) {
	t.Helper()
	if m.src.IsValid() {
		q.Tunnel = []string{m.src.String(), m.dst.String()}
	}
	for i, n := range []int{0, 5, 14, 1000} {
		clear := pkttest.UDP(m.inner, n)
		seq := uint64(1000*i + 1)
		if q.ESN {
			seq = 0xfffffff7<<32 - 1500 + seq
		}
		b := pkttest.Buffer(clear)
		h := pkttest.Parse(t, b)
		if m.src.IsValid() {
			if err := ipip.Encap(b, &h, m.src, m.dst, 0, 64, 0x4321); err != nil {
				t.Fatal(err)
			}
		}
		if err := sealOurs(b, &h, seq); err != nil {
			t.Errorf("%s, %d bytes: Seal = %v", m.name, n, err)
			continue
		}
		q.Op, q.Seq = "open", seq
		got, err := p.do(q, b.Bytes())
		if err != nil || !bytes.Equal(got, clear) {
			t.Errorf("%s, %d bytes: opened by the peer: %v\n%x, want\n%x", m.name, n, err, got, clear)
		}
		q.Op = "seal"
		got, err = p.do(q, clear)
		if err != nil {
			t.Errorf("%s, %d bytes: %v", m.name, n, err)
			continue
		}
		b = pkttest.Buffer(got)
		h = pkttest.Parse(t, b)
		if err := openOurs(b, &h, seq); err != nil {
			t.Errorf("%s, %d bytes: opening %x = %v", m.name, n, got, err)
			continue
		}
		if m.src.IsValid() {
			h := pkttest.Parse(t, b)
			if err := ipip.Decap(b, &h); err != nil {
				t.Errorf("%s, %d bytes: Decap = %v", m.name, n, err)
			}
		}
		if !bytes.Equal(b.Bytes(), clear) {
			t.Errorf("%s, %d bytes: opened\n%x, want\n%x", m.name, n, b.Bytes(), clear)
		}
	}
}

// TestScapy exchanges packets with scapy, for every algorithm, IPv4 and IPv6,
// transport and tunnel mode, ESP and AH, with sequence numbers of 32 and 64 bits.
func TestScapy(t *testing.T) {
	p := startPeer(t)
	for _, esn := range []bool{false, true} {
		name := ""
		if esn {
			name = " ESN"
		}
		t.Run("ESP"+name, func(t *testing.T) { scapyESP(t, p, esn) })
		t.Run("AH"+name, func(t *testing.T) { scapyAH(t, p, esn) })
	}
	t.Run("AH options", func(t *testing.T) { scapyAHOptions(t, p) })
}

func scapyESP(t *testing.T, p *peer, esn bool) {
	for e, crypt := range scapyCrypt {
		enc, _ := e.Info()
		for _, bits := range enc.KeyBits {
			for a, auth := range scapyAuth {
				if enc.AEAD && a != alg.AuthNone || e == alg.Null && a == alg.AuthNone {
					continue
				}
				if esn && a == alg.AuthNone && !enc.AEAD {
					continue
				}
				info, _ := a.Info()
				c := esp.Config{SPI: 0xdeadbeef, Transform: klips.Transform{Enc: e, Auth: a},
					EncKey: testKey(bits, 3), AuthKey: testKey(info.KeyBits[0], 77), ESN: esn}
				s, err := esp.NewSealer(c)
				if err != nil {
					t.Fatal(err)
				}
				o, err := esp.NewOpener(c)
				if err != nil {
					t.Fatal(err)
				}
				q := request{Proto: "esp", SPI: c.SPI, ESN: esn, Crypt: crypt, CKey: hex.EncodeToString(c.EncKey),
					Auth: auth, AKey: hex.EncodeToString(c.AuthKey)}
				t.Run(fmt.Sprintf("%s %d %s", crypt, bits, auth), func(t *testing.T) {
					for _, m := range modes {
						exchange(t, p, q, m, s.Seal, func(b *packet.Buffer, h *packet.Header, seq uint64) error {
							if err := o.Verify(b, h, seq); err != nil {
								return err
							}
							_, err := o.Open(b, h)
							return err
						})
					}
				})
			}
		}
	}
}

func scapyAH(t *testing.T, p *peer, esn bool) {
	for a, auth := range scapyAuth {
		if a == alg.AuthNone {
			continue
		}
		info, _ := a.Info()
		c := ah.Config{SPI: 0xdeadbeef, Auth: a, Key: testKey(info.KeyBits[0], 77), ESN: esn}
		s, err := ah.NewSealer(c)
		if err != nil {
			t.Fatal(err)
		}
		o, err := ah.NewOpener(c)
		if err != nil {
			t.Fatal(err)
		}
		q := request{Proto: "ah", SPI: c.SPI, ESN: esn, Auth: auth, AKey: hex.EncodeToString(c.Key)}
		open := func(b *packet.Buffer, h *packet.Header, seq uint64) error {
			if err := o.Verify(b, h, seq); err != nil {
				return err
			}
			return o.Open(b, h)
		}
		t.Run(auth, func(t *testing.T) {
			for _, m := range modes {
				exchange(t, p, q, m, s.Seal, open)
			}
		})
	}
}

// scapyAHOptions has IPv4 options and IPv6 extension headers before AH.
func scapyAHOptions(t *testing.T, p *peer) {
	c := ah.Config{SPI: 0xdeadbeef, Auth: alg.SHA1, Key: testKey(160, 77)}
	s, err := ah.NewSealer(c)
	if err != nil {
		t.Fatal(err)
	}
	o, err := ah.NewOpener(c)
	if err != nil {
		t.Fatal(err)
	}
	route := func(left byte, last ...byte) []byte {
		r := []byte{packet.ProtoUDP, byte(2 * len(last)), 0, left, 0, 0, 0, 0}
		for _, l := range last {
			r = append(r, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, l)
		}
		return r
	}
	for _, tt := range []struct {
		name    string
		version int
		proto   uint8
		opts    []byte
	}{
		{"router alert", 4, 17, []byte{148, 4, 0, 0}},
		{"record route and NOP", 4, 17, []byte{7, 7, 8, 10, 0, 0, 1, 1}},
		{"time stamp", 4, 17, []byte{68, 8, 5, 0, 1, 2, 3, 4}},
		{"walked source route", 4, 17, []byte{131, 7, 8, 10, 0, 0, 1, 0}},
		{"destination options", 6, 60, []byte{17, 1, 0x1e, 4, 1, 2, 3, 4, 0x3e, 4, 5, 6, 7, 8, 0, 0}},
		{"hop by hop and destination options", 6, 0, []byte{60, 0, 5, 2, 0, 0, 1, 0, 17, 0, 0x3e, 4, 5, 6, 7, 8}},
		// When scapy sends, it assumes that a routing header has all hops left; when it
		// receives, that it has none.
		{"routing header at its end", 6, 43, route(0, 11, 12)},
		{"routing header with one hop to go", 6, 43, route(1, 11)},
	} {
		routing := tt.version == 6 && tt.proto == packet.ProtoRouting
		clear := pkttest.IP(tt.version, tt.proto, tt.opts, pkttest.UDP(4, 30)[20:])
		q := request{Op: "open", Proto: "ah", SPI: c.SPI, Seq: 9, Auth: "HMAC-SHA1-96", AKey: hex.EncodeToString(c.Key)}
		b := pkttest.Buffer(clear)
		h := pkttest.Parse(t, b)
		if err := s.Seal(b, &h, 9); err != nil {
			t.Errorf("%s: Seal = %v", tt.name, err)
			continue
		}
		if got, err := p.do(q, b.Bytes()); (err != nil || !bytes.Equal(got, clear)) && !(routing && tt.opts[3] > 0) {
			t.Errorf("%s: opened by the peer: %v\n%x, want\n%x", tt.name, err, got, clear)
		}
		if routing && tt.opts[3] == 0 {
			continue
		}
		q.Op = "seal"
		got, err := p.do(q, clear)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		b = pkttest.Buffer(got)
		h = pkttest.Parse(t, b)
		if err := o.Verify(b, &h, 0); err != nil {
			t.Errorf("%s: Verify of the peer's %x = %v", tt.name, got, err)
		}
	}
}
