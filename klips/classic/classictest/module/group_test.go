package module_test

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// Links are pairs; a second link is not refused if it breaks the first. A freed SA is
// listed as zeros, then as the SA that gets its memory.
func TestFreed(t *testing.T) {
	b := newBench(t)
	first, other := tun(0x1001, there), tun(0x1002, there)
	esp := klips.SAID{Dst: there, SPI: 0x1003, Proto: klips.ProtoESP}
	fresh := klips.SAID{Dst: there, SPI: 0x1004, Proto: klips.ProtoESP}
	b.do(add(first), add(other), add(esp), pfkey.GroupPair(first, esp), pfkey.GroupPair(other, esp))
	b.table("ipsec_spigrp", other.String()+" "+esp.String()+" ", first.String()+" "+esp.String()+" ", esp.String()+" ")
	b.do(pfkey.DeleteSA(esp)) // goes back to other, which esp points at
	b.table("ipsec_spigrp", first.String()+" unk00x0@<invalid> ")
	b.do(add(fresh)) // it gets the memory freed last
	b.table("ipsec_spigrp", first.String()+" "+fresh.String()+" ", fresh.String()+" ")
	if got := b.Dangling(); !slices.Equal(got, []klips.SAID{first}) || len(b.Faults()) != 0 {
		t.Errorf("dangling: %v, faults: %q", got, b.Faults())
	}
	b.do(pfkey.DeleteSA(first)) // and an SA that it was never grouped with
	b.table("ipsec_spigrp")
	if l := b.Faults(); len(l) != 1 || !strings.Contains(l[0], first.String()) {
		t.Errorf("faults: %q", l)
	}
}

// Each ungroup drops a reference of the followers.
func TestReferences(t *testing.T) {
	for _, c := range []struct {
		name string
		dst  netip.Addr
		head int // which of the pair is the head
	}{{"outbound", there, 0}, {"inbound", here, 1}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			pair := []klips.SAID{tun(0x1001, c.dst), {Dst: c.dst, SPI: 0x1002, Proto: klips.ProtoESP}}
			head, tail := pair[c.head], pair[1-c.head]
			b.do(add(pair[0]), add(pair[1]))
			for _, refs := range []int{2, 1, 0} {
				b.do(pfkey.GroupPair(pair[0], pair[1]), pfkey.Ungroup(tail)) // no SA before it would be unlinked
				b.refused(syscall.EEXIST, pfkey.GroupPair(pair[0], pair[1]))
				b.do(pfkey.Ungroup(head))
				if b.Refs(head) != 3 || b.Refs(tail) != refs {
					t.Errorf("references: %d, %d; want 3, %d", b.Refs(head), b.Refs(tail), refs)
				}
			}
			b.table("ipsec_spigrp", head.String()+" ")
			b.refused(syscall.ENOENT, pfkey.GroupPair(pair[0], pair[1]))
			if l := append(b.Faults(), b.Tables()["ipsec_spi"]); len(l) != 1 {
				t.Errorf("faults: %q", l)
			}
		})
	}
}

// Operations on freed memory are recorded, and nothing panics.
func TestFaults(t *testing.T) {
	a, z := tun(0x1001, there), tun(0x1002, there)
	esp := klips.SAID{Dst: there, SPI: 0x1003, Proto: klips.ProtoESP}
	for _, c := range []struct {
		name  string
		m     *pfkey.Message
		fault bool
	}{
		{"listing", nil, false},
		{"delete", pfkey.DeleteSA(a), true},
		{"ungroup", pfkey.Ungroup(a), true},
		{"flush", pfkey.Flush(), true},
		{"delete another", pfkey.DeleteSA(z), false},
	} {
		for _, reused := range []bool{false, true} {
			b := newBench(t)
			b.do(add(a), add(esp), pfkey.GroupPair(a, esp), add(z), pfkey.GroupPair(z, esp), pfkey.DeleteSA(z), add(z))
			if reused {
				b.do(add(esp))
			}
			if c.m != nil {
				b.do(c.m)
			}
			b.Tables()
			if got := len(b.Faults()) > 0; got != c.fault {
				t.Errorf("%s, memory used again: %v: faults %q", c.name, reused, b.Faults())
			}
		}
	}
	// An inbound policy is set on an unrelated SA.
	b := newBench(t)
	one, two := klips.SAID{Dst: here, SPI: 0x1001, Proto: klips.ProtoESP}, klips.SAID{Dst: here, SPI: 0x1002, Proto: klips.ProtoESP}
	end, stray := tun(0x1003, here), tun(0x1004, here)
	policy := pfkey.AddFlow(klips.Eroute{ID: one, Selector: klips.Selector{
		Src: netip.MustParsePrefix("10.2.0.0/16"), Dst: netip.MustParsePrefix("10.1.0.0/16"),
	}}, klips.ErouteAddIn)
	b.do(add(one), add(two), add(end), pfkey.GroupPair(end, one), pfkey.GroupPair(end, two), pfkey.DeleteSA(two))
	b.refused(syscall.ENOENT, policy)
	b.do(add(stray), policy)
	if l := b.Faults(); len(l) != 1 || !strings.Contains(l[0], stray.String()) {
		t.Errorf("faults: %q", l)
	}
}
