package klips

import (
	"net/netip"
	"testing"
)

func TestFault(t *testing.T) {
	addr := netip.MustParseAddr
	esp, ah, comp, tun := ProtoESP, ProtoAH, ProtoComp, ProtoTun
	for _, tt := range []struct {
		dst   string
		proto Proto
		spi   SPI
		natt  NATTType
		want  Fault
	}{
		{"192.0.2.1", esp, 0x100, NATTNone, FaultNone},
		{"224.0.0.5", esp, 0x100, NATTNone, FaultNone}, // multicast has SAs (RFC 4301 section 4.1)
		{"255.255.255.255", ah, 0x100, NATTNone, FaultNone},
		{"0.0.0.0", esp, 0x100, NATTNone, FaultDestination},
		{"::", ah, 0x100, NATTNone, FaultDestination},
		{"0.0.0.0", tun, 0x100, NATTNone, FaultDestination},
		{"::", comp, 0x100, NATTNone, FaultDestination},
		{"192.0.2.1", comp, 0xffff, NATTNone, FaultNone},
		{"192.0.2.1", comp, 0x10000, NATTNone, FaultCPI},
		{"2001:db8::1", comp, 0xffffffff, NATTNone, FaultCPI},
		{"192.0.2.1", esp, 0x10000, NATTNonESP, FaultNone},
		{"2001:db8::1", esp, 0x100, NATTNonIKE, FaultNone},
		{"192.0.2.1", ah, 0x100, NATTNonESP, FaultEncapsulation},
		{"192.0.2.1", comp, 0x100, NATTNonIKE, FaultEncapsulation},
		{"2001:db8::1", tun, 0x100, NATTNonESP, FaultEncapsulation},
	} {
		s := SASpec{ID: SAID{Dst: addr(tt.dst), SPI: tt.spi, Proto: tt.proto}, NATT: NATT{Type: tt.natt}}
		if got := s.Fault(); got != tt.want {
			t.Errorf("%v with UDP encapsulation %d: fault %v, want %v", s.ID, tt.natt, got, tt.want)
		}
	}
}

func TestWithPorts(t *testing.T) {
	for _, tt := range []struct{ n, want NATT }{
		{NATT{}, NATT{}},
		{NATT{Type: NATTNonESP}, NATT{Type: NATTNonESP, SPort: 4500, DPort: 4500}},
		{NATT{Type: NATTNonESP, SPort: 4510}, NATT{Type: NATTNonESP, SPort: 4510, DPort: 4500}},
		{NATT{Type: NATTNonESP, DPort: 4510}, NATT{Type: NATTNonESP, SPort: 4500, DPort: 4510}},
		{NATT{Type: NATTNonIKE}, NATT{Type: NATTNonIKE, SPort: 500, DPort: 500}},
		{NATT{Type: NATTNonIKE, SPort: 1, DPort: 2}, NATT{Type: NATTNonIKE, SPort: 1, DPort: 2}},
	} {
		if got := tt.n.WithPorts(); got != tt.want {
			t.Errorf("%+v.WithPorts() = %+v, want %+v", tt.n, got, tt.want)
		}
	}
}
