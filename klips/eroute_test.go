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
