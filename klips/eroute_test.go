package klips

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
)

func TestAlsoFault(t *testing.T) {
	said := func(dst string, spi SPI, p Proto) SAID { return SAID{netip.MustParseAddr(dst), spi, p} }
	first := said("192.0.2.2", 0x100, ProtoTun)
	b, c := said("192.0.2.2", 0x101, ProtoTun), said("192.0.2.2", 0x100, ProtoESP)
	far, six := said("192.0.2.3", 0x101, ProtoTun), said("2001:db8::2", 0x101, ProtoTun)
	var most []SAID
	for i := range MaxAlso {
		most = append(most, said("192.0.2.2", SPI(0x200+i), ProtoTun))
	}
	for _, tt := range []struct {
		id   SAID
		also []SAID
		want Fault
		at   SAID
	}{
		{first, nil, FaultNone, SAID{}},
		{Magic(SPIDrop), nil, FaultNone, SAID{}},
		{first, []SAID{b, c}, FaultNone, SAID{}},
		{six, []SAID{said("2001:db8::2", 0x100, ProtoAH)}, FaultNone, SAID{}},
		{first, most, FaultNone, SAID{}},
		{first, slices.Concat(most, []SAID{b}), FaultAlsoMany, b},
		{Magic(SPIDrop), []SAID{b}, FaultAlsoShunt, Magic(SPIDrop)},
		{first, []SAID{b, Magic(SPIPass)}, FaultAlsoShunt, Magic(SPIPass)},
		{first, []SAID{b, far}, FaultAlsoPeer, far},
		{first, []SAID{six}, FaultAlsoPeer, six},
		{first, []SAID{b, c, b}, FaultAlsoTwice, b},
		{first, []SAID{b, first}, FaultAlsoTwice, first},
	} {
		e := Eroute{Selector: Selector{Src: netip.MustParsePrefix("10.0.0.0/8"), Dst: netip.MustParsePrefix("10.0.0.0/8")}, ID: tt.id, Also: tt.also}
		if at, got := e.AlsoFault(); got != tt.want || at != tt.at {
			t.Errorf("%v also %v: fault %v of %v, want %v of %v", tt.id, tt.also, got, at, tt.want, tt.at)
		}
		for _, can := range []bool{true, false} {
			fault, object, errno := tt.want, tt.at.String(), syscall.EINVAL
			if !can && fault == FaultNone && tt.also != nil {
				fault, object, errno = FaultAlso, e.Selector.String(), syscall.EOPNOTSUPP
			}
			err := e.CheckAlso("add eroute", can)
			var oe *OpError
			if fault == FaultNone {
				if err != nil {
					t.Errorf("%v also %v: %v", tt.id, tt.also, err)
				}
			} else if !errors.As(err, &oe) || oe.Fault != fault || oe.Object != object || oe.Op != "add eroute" || !errors.Is(err, errno) {
				t.Errorf("%v also %v: %v, want fault %v of %s", tt.id, tt.also, err, fault, object)
			}
		}
	}
}

func TestSameTarget(t *testing.T) {
	a, b := SAID{netip.MustParseAddr("192.0.2.2"), 0x100, ProtoTun}, SAID{netip.MustParseAddr("192.0.2.2"), 0x101, ProtoTun}
	list := []Eroute{{ID: a}, {ID: b}, {ID: a, Also: []SAID{b}}, {ID: b, Also: []SAID{a}}}
	for i := range list {
		for j := range list {
			if got := list[i].SameTarget(&list[j]); got != (i == j) {
				t.Errorf("SameTarget(%v, %v) = %v", list[i].SAIDs(), list[j].SAIDs(), got)
			}
		}
	}
	if !(&Eroute{ID: a, Also: []SAID{}}).SameTarget(&list[0]) {
		t.Error("an empty list is not the same as none")
	}
}

// All packets of a small world decide what Within, Overlaps and Reverse return.
func TestSelectorRelations(t *testing.T) {
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/30"), netip.MustParsePrefix("10.0.0.0/31"), netip.MustParsePrefix("10.0.0.3/32")}
	var all []Selector
	for _, src := range nets {
		for _, dst := range nets {
			for _, proto := range []uint8{0, syscall.IPPROTO_TCP, syscall.IPPROTO_ESP} {
				for _, ports := range [][2]uint16{{}, {1, 0}, {0, 2}, {2, 1}} {
					if proto != syscall.IPPROTO_ESP || ports == [2]uint16{} { // there are no others
						all = append(all, Selector{src, dst, proto, ports[0], ports[1]})
					}
				}
			}
		}
	}
	type packet struct {
		src, dst         netip.Addr
		proto            uint8
		srcPort, dstPort uint16
	}
	selects := func(s Selector, p packet) bool {
		ports := p.proto == syscall.IPPROTO_TCP || p.proto == syscall.IPPROTO_UDP
		return s.Src.Contains(p.src) && s.Dst.Contains(p.dst) && (s.Proto == 0 || s.Proto == p.proto) &&
			(s.SrcPort == 0 || ports && s.SrcPort == p.srcPort) && (s.DstPort == 0 || ports && s.DstPort == p.dstPort)
	}
	var packets []packet
	for src := range byte(4) {
		for dst := range byte(4) {
			for _, proto := range []uint8{syscall.IPPROTO_TCP, syscall.IPPROTO_UDP, syscall.IPPROTO_ESP} {
				for ports := range uint16(16) {
					packets = append(packets, packet{netip.AddrFrom4([4]byte{10, 0, 0, src}), netip.AddrFrom4([4]byte{10, 0, 0, dst}), proto, ports / 4, ports % 4})
				}
			}
		}
	}
	back := func(p packet) packet { return packet{p.dst, p.src, p.proto, p.dstPort, p.srcPort} }
	sets := make([][]bool, len(all))
	for i, s := range all {
		for _, p := range packets {
			sets[i] = append(sets[i], selects(s, p))
			if selects(s, p) != selects(s.Reverse(), back(p)) {
				t.Fatalf("%v, reversed %v: they differ about %v", s, s.Reverse(), p)
			}
		}
	}
	for i, a := range all {
		for j, b := range all {
			within, overlaps := true, false
			for k := range packets {
				within = within && (!sets[i][k] || sets[j][k])
				overlaps = overlaps || sets[i][k] && sets[j][k]
			}
			if got := a.Within(b); got != within {
				t.Errorf("%v within %v: %v", a, b, got)
			}
			if got := a.Overlaps(b); got != overlaps {
				t.Errorf("%v overlaps %v: %v", a, b, got)
			}
		}
	}
}
