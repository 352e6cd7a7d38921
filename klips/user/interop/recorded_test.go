package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/ipcomp"
	"github.com/klips-go/ipsec/klips/user/ipip"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// An sa is an SA according to a recording's commands.
type sa struct {
	id       klips.SAID
	spec     klips.SASpec
	src, dst netip.Addr
	next     *sa // by spigrp

	espIn *esp.Opener
	ahIn  *ah.Opener
	comp  *ipcomp.Compressor
}

var espAlgs = map[string]klips.Transform{
	"3des":            {Enc: alg.TripleDES},
	"3des-md5":        {Enc: alg.TripleDES, Auth: alg.MD5},
	"3des-md5-96":     {Enc: alg.TripleDES, Auth: alg.MD5},
	"3des-sha1":       {Enc: alg.TripleDES, Auth: alg.SHA1},
	"3des-sha1-96":    {Enc: alg.TripleDES, Auth: alg.SHA1},
	"aes128-none":     {Enc: alg.AES},
	"aes128-md5":      {Enc: alg.AES, Auth: alg.MD5},
	"aes128-sha1":     {Enc: alg.AES, Auth: alg.SHA1},
	"aes192-md5":      {Enc: alg.AES, Auth: alg.MD5},
	"aes192-sha1":     {Enc: alg.AES, Auth: alg.SHA1},
	"aes192-sha2_256": {Enc: alg.AES, Auth: alg.SHA256},
	"aes256-md5":      {Enc: alg.AES, Auth: alg.MD5},
	"aes256-none":     {Enc: alg.AES},
	"aes256-sha1":     {Enc: alg.AES, Auth: alg.SHA1},
	"aes256-sha2_256": {Enc: alg.AES, Auth: alg.SHA256},
}

func parseSAID(s string) (klips.SAID, error) {
	for _, p := range []klips.Proto{klips.ProtoTun, klips.ProtoESP, klips.ProtoAH, klips.ProtoComp} {
		rest, ok := strings.CutPrefix(s, p.String()+"0x")
		if !ok {
			continue
		}
		spi, dst, ok := strings.Cut(rest, "@")
		n, err := strconv.ParseUint(spi, 16, 32)
		a, err2 := netip.ParseAddr(dst)
		if !ok || err != nil || err2 != nil {
			break
		}
		return klips.SAID{Dst: a, SPI: klips.SPI(n), Proto: p}, nil
	}
	return klips.SAID{}, fmt.Errorf("SAID %q", s)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		panic(err)
	}
	return b
}

// setup makes and groups the SAs of a recording.
func setup(r *recorded.Exchange) (map[klips.SAID]*sa, error) {
	sas := map[klips.SAID]*sa{}
	for _, cmd := range r.Cmds() {
		opt := func(name string) string {
			if i := slices.Index(cmd, name); i > 0 && i+1 < len(cmd) {
				return cmd[i+1]
			}
			return ""
		}
		switch cmd[0] {
		case "spi":
			id, err := parseSAID(opt("--said"))
			if err != nil {
				return nil, err
			}
			s := &sa{id: id}
			s.src, _ = netip.ParseAddr(opt("--src"))
			s.dst, _ = netip.ParseAddr(opt("--dst"))
			s.spec.EncKey, s.spec.AuthKey = unhex(opt("--enckey")), unhex(opt("--authkey"))
			switch id.Proto {
			case klips.ProtoESP:
				t, ok := espAlgs[opt("--esp")]
				if !ok {
					return nil, fmt.Errorf("algorithm %q", opt("--esp"))
				}
				s.spec.Transform = t
				s.espIn, err = esp.NewOpener(s.esp())
			case klips.ProtoAH:
				s.spec.Auth = alg.MD5
				if strings.Contains(opt("--ah"), "sha1") {
					s.spec.Auth = alg.SHA1
				}
				s.ahIn, err = ah.NewOpener(s.ah())
			case klips.ProtoComp:
				s.comp = ipcomp.NewCompressor()
			}
			if err != nil {
				return nil, err
			}
			sas[id] = s
		case "spigrp":
			var prev *sa
			for _, a := range cmd[1:] {
				id, err := parseSAID(a)
				if err != nil || sas[id] == nil {
					continue
				}
				if prev != nil {
					prev.next = sas[id]
				}
				prev = sas[id]
			}
		}
	}
	return sas, nil
}

func (s *sa) esp() esp.Config {
	return esp.Config{SPI: uint32(s.id.SPI), Transform: s.spec.Transform, EncKey: s.spec.EncKey, AuthKey: s.spec.AuthKey}
}

func (s *sa) ah() ah.Config {
	return ah.Config{SPI: uint32(s.id.SPI), Auth: s.spec.Auth, Key: s.spec.AuthKey}
}

// records calls f for each recording without a defect of the original. f returns the
// number of packets that it checked; their sum must be at least the number at the time
// of writing.
func records(t *testing.T, least int, f func(r *recorded.Exchange) int) {
	n := 0
	for r := range recorded.Exchanges(t) {
		if !r.Quirk {
			n += f(r)
		}
	}
	if n < least {
		t.Errorf("%d packets agree, want at least %d", n, least)
	}
	t.Logf("%d packets", n)
}

// reassemble reassembles the fragments of one packet, as the IP stack does before
// IPsec.
func reassemble(frags []recorded.Bytes) ([]byte, error) {
	if len(frags) == 1 {
		return frags[0], nil
	}
	var head, data []byte
	end := -1
	for _, p := range frags {
		h, ok := packet.ParseIP(p)
		if !ok || h.Version != 4 {
			return nil, errors.New("not IPv4")
		}
		if need := h.FragOff + h.Total - h.Len; len(data) < need {
			data = append(data, make([]byte, need-len(data))...)
		}
		copy(data[h.FragOff:], p[h.Len:h.Total])
		if h.FragOff == 0 {
			head = p[:h.Len]
		}
		if p[6]&0x20 == 0 {
			end = h.FragOff + h.Total - h.Len
		}
	}
	if head == nil || end != len(data) {
		return nil, errors.New("fragments missing")
	}
	p := append(bytes.Clone(head), data...)
	p[6], p[7] = p[6]&0x40, 0
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	return p, nil
}

// step opens the outermost layer of the packet in b. It returns the protocol, 0 if it
// belongs to no SA.
func step(sas map[klips.SAID]*sa, d *ipcomp.Decompressor, b *packet.Buffer) (proto uint8, err error) {
	h, ok := packet.ParseIP(b.Bytes())
	if !ok {
		return 0, errors.New("no IP packet")
	}
	find := func(spi uint32) *sa {
		return sas[klips.SAID{Dst: h.Dst, SPI: klips.SPI(spi), Proto: klips.Proto(h.Proto)}]
	}
	switch h.Proto {
	case packet.ProtoESP:
		spi, _, err := esp.ParseHeader(b, &h)
		if err != nil {
			return h.Proto, err
		}
		if s := find(spi); s != nil {
			if err := s.espIn.Verify(b, &h, 0); err != nil {
				return h.Proto, err
			}
			_, err := s.espIn.Open(b, &h)
			return h.Proto, err
		}
	case packet.ProtoAH:
		spi, _, err := ah.ParseHeader(b, &h)
		if err != nil {
			return h.Proto, err
		}
		if s := find(spi); s != nil {
			if err := s.ahIn.Verify(b, &h, 0); err != nil {
				return h.Proto, err
			}
			return h.Proto, s.ahIn.Open(b, &h)
		}
	case packet.ProtoComp:
		_, cpi, err := ipcomp.ParseHeader(b, &h)
		if err != nil {
			return h.Proto, err
		}
		if s := find(uint32(cpi)); s != nil {
			return h.Proto, d.Decompress(b, &h, cpi, ipcomp.DefaultMax)
		}
	case packet.ProtoIPIP, packet.ProtoIPv6:
		for _, s := range sas {
			if s.id.Proto == klips.ProtoTun && s.src == h.Src && s.id.Dst == h.Dst {
				return h.Proto, ipip.Decap(b, &h)
			}
		}
	}
	return 0, nil
}

// TestOpenRecorded opens every packet that a KLIPS kernel sent, and those that it
// accepted; the result is the kernel's clear packet.
func TestOpenRecorded(t *testing.T) {
	records(t, 1700, func(r *recorded.Exchange) int {
		sas, err := setup(r)
		if err != nil {
			t.Errorf("%s: %v", r.ID, err)
			return 0
		}
		d := ipcomp.NewDecompressor()
		opened := 0
		for i, e := range r.Events {
			if e.Quirk || len(e.Clear) != 1 || len(e.Wire) == 0 || (r.Direction == "in" && e.Result != "delivered") {
				continue
			}
			wire, err := reassemble(e.Wire)
			if err != nil {
				t.Errorf("%s event %d: %v", r.ID, i, err)
				continue
			}
			clear := []byte(e.Clear[0])
			if wire[9] == packet.ProtoUDP {
				continue // passed in clear
			}
			b := roomy(wire)
			for {
				if bytes.Equal(b.Bytes(), clear) {
					opened++
					break
				}
				proto, err := step(sas, d, b)
				if err != nil || proto == 0 {
					t.Errorf("%s event %d: protocol %d: %v, at\n%x, want\n%x", r.ID, i, proto, err, b.Bytes(), clear)
					break
				}
			}
		}
		return opened
	})
}

// TestSealRecorded sends a KLIPS kernel's clear packets through the same group, and
// compares all that is not random: the kernel's packet and ours are opened in parallel.
// In each layer they must agree in the IP header, SPI and sequence number, in whether
// it is compressed and, if it is not, in length.
func TestSealRecorded(t *testing.T) {
	records(t, 950, func(r *recorded.Exchange) int {
		sas, err := setup(r)
		if err != nil {
			t.Errorf("%s: %v", r.ID, err)
			return 0
		}
		if r.Direction != "out" || strings.HasPrefix(r.ID, "natt") {
			return 0
		}
		d := ipcomp.NewDecompressor()
		sealed := 0
		for i, e := range r.Events {
			if len(e.Clear) != 1 || len(e.Wire) == 0 {
				continue
			}
			wire, err := reassemble(e.Wire)
			if err != nil {
				t.Errorf("%s event %d: %v", r.ID, i, err)
				continue
			}
			clear := []byte(e.Clear[0])
			group, seqs, outer := layers(sas, d, wire, clear)
			if len(group) == 0 {
				continue
			}
			kernel, ours := roomy(wire), roomy(clear)
			if err := seal(group, seqs, outer, ours); err != nil {
				t.Errorf("%s event %d: %v", r.ID, i, err)
				continue
			}
			compressed := slices.ContainsFunc(group, func(s *sa) bool { return s.comp != nil })
			for {
				if d := differ(ours.Bytes(), kernel.Bytes(), compressed); d != "" {
					t.Errorf("%s event %d: %s\nours   %x\nKLIPS  %x", r.ID, i, d, ours.Bytes(), kernel.Bytes())
					break
				}
				if bytes.Equal(ours.Bytes(), clear) {
					sealed++
					break
				}
				p1, err1 := step(sas, d, ours)
				p2, err2 := step(sas, d, kernel)
				if p1 != p2 || p1 == 0 || err1 != nil || err2 != nil {
					t.Errorf("%s event %d: opening gives protocol %d, %v and protocol %d, %v", r.ID, i, p1, err1, p2, err2)
					break
				}
			}
		}
		return sealed
	})
}

// roomy returns a buffer with p, and with room to decompress.
func roomy(p []byte) *packet.Buffer {
	b := pkttest.Buffer(append(bytes.Clone(p), make([]byte, 20000)...))
	b.Trim(20000)
	return b
}

// layers returns the group that made wire from clear, inner first, and from the wire
// the sequence numbers and the headers of tunnels, outer first.
func layers(sas map[klips.SAID]*sa, d *ipcomp.Decompressor, wire, clear []byte) (group []*sa, seqs []uint32, outer []packet.Header) {
	h, ok := packet.ParseIP(wire)
	if !ok {
		return nil, nil, nil
	}
	// The outermost SA is on the wire; the wanted group ends in it.
	var last *sa
	spi := uint32(0)
	switch h.Proto {
	case packet.ProtoESP:
		spi = binary.BigEndian.Uint32(wire[h.Len:])
	case packet.ProtoAH:
		spi = binary.BigEndian.Uint32(wire[h.Len+4:])
	}
	last = sas[klips.SAID{Dst: h.Dst, SPI: klips.SPI(spi), Proto: klips.Proto(h.Proto)}]
	if last == nil {
		return nil, nil, nil
	}
	for s := last; s != nil; {
		group = append([]*sa{s}, group...)
		var prev *sa
		for _, p := range sas {
			if p.next == s {
				prev = p
			}
		}
		s = prev
	}
	b := roomy(wire)
	for !bytes.Equal(b.Bytes(), clear) {
		h, _ := packet.ParseIP(b.Bytes())
		switch h.Proto {
		case packet.ProtoESP:
			seqs = append(seqs, binary.BigEndian.Uint32(b.Bytes()[h.Len+4:]))
		case packet.ProtoAH:
			seqs = append(seqs, binary.BigEndian.Uint32(b.Bytes()[h.Len+8:]))
		case packet.ProtoIPIP:
			outer = append(outer, h)
		}
		if p, err := step(sas, d, b); p == 0 || err != nil {
			return nil, nil, nil
		}
	}
	return group, seqs, outer
}

// seal sends the packet in b through a group. The identification of outer headers and
// their TOS, which depends on a sysctl, are the kernel's.
func seal(group []*sa, seqs []uint32, outer []packet.Header, b *packet.Buffer) error {
	n := len(seqs)
	h, ok := packet.ParseIP(b.Bytes())
	if !ok {
		return errors.New("not an IP packet")
	}
	for _, s := range group {
		switch s.id.Proto {
		case klips.ProtoTun:
			o := outer[len(outer)-1]
			outer = outer[:len(outer)-1]
			if err := ipip.Encap(b, &h, s.src, s.id.Dst, o.TOS, 64, o.ID); err != nil {
				return err
			}
		case klips.ProtoComp:
			s.comp.Compress(b, &h, uint16(s.id.SPI))
		case klips.ProtoESP:
			e, err := esp.NewSealer(s.esp())
			if err != nil {
				return err
			}
			n--
			if err := e.Seal(b, &h, uint64(seqs[n])); err != nil {
				return err
			}
		case klips.ProtoAH:
			a, err := ah.NewSealer(s.ah())
			if err != nil {
				return err
			}
			n--
			if err := a.Seal(b, &h, uint64(seqs[n])); err != nil {
				return err
			}
		}
	}
	return nil
}

// differ compares two layers in all that is not random. Lengths differ if the
// compressors of the inner packet do.
func differ(a, b []byte, compressed bool) string {
	ha, ok1 := packet.ParseIP(a)
	hb, ok2 := packet.ParseIP(b)
	if !ok1 || !ok2 {
		return "no IP packets"
	}
	if compressed {
		ha.Total, hb.Total = 0, 0
	}
	if ha != hb {
		return fmt.Sprintf("IP headers %+v and %+v", ha, hb)
	}
	n := 0
	switch ha.Proto {
	case packet.ProtoESP:
		n = 8
	case packet.ProtoAH:
		n = 12
	case packet.ProtoComp:
		n = 4
	}
	if x, y := a[ha.Len:ha.Len+n], b[hb.Len:hb.Len+n]; !bytes.Equal(x, y) {
		return fmt.Sprintf("headers %x and %x", x, y)
	}
	return ""
}
