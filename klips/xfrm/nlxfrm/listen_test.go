package nlxfrm

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
)

// expire returns the data of an EXPIRE message about a state.
func expire(hard byte) []byte {
	b := make([]byte, saInfoLen+8)
	native.PutUint16(b[212:], FamilyIPv4)
	native.PutUint16(b[40:], FamilyIPv4)
	copy(b[56:], []byte{192, 0, 2, 2})
	be.PutUint32(b[72:], 0x100)
	b[76] = 50
	b[saInfoLen] = hard
	return b
}

func acquire() []byte {
	b := make([]byte, 24+16+selectorLen)
	s := Selector{Family: FamilyIPv4, Src: netip.MustParsePrefix("10.1.0.1/32"), Dst: netip.MustParsePrefix("10.2.0.1/32"), Proto: 6, DstPort: 443, DstPortMask: 0xffff}
	if err := s.put(b[40:]); err != nil {
		panic(err)
	}
	return b
}

func mapping(family uint16) []byte {
	b := make([]byte, 64)
	native.PutUint16(b[20:], family)
	b[22] = 50
	be.PutUint32(b[16:], 0x100)
	for i, a := range []string{"192.0.2.2", "192.0.2.1", "192.0.2.9"} {
		if family == FamilyIPv6 {
			a = strings.ReplaceAll(a, "192.0.2.", "2001:db8::")
		}
		putAddr(b[[]int{0, 28, 44}[i]:], netip.MustParseAddr(a))
	}
	be.PutUint16(b[60:], 4500)
	be.PutUint16(b[62:], 30001)
	return b
}

func TestMapping(t *testing.T) {
	for family, want := range map[uint16]Mapping{
		FamilyIPv4: {ID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: 50}, netip.MustParseAddrPort("192.0.2.1:4500"), netip.MustParseAddrPort("192.0.2.9:30001")},
		FamilyIPv6: {ID{Dst: netip.MustParseAddr("2001:db8::2"), SPI: 0x100, Proto: 50}, netip.MustParseAddrPort("[2001:db8::1]:4500"), netip.MustParseAddrPort("[2001:db8::9]:30001")},
	} {
		m := netlink.Message{Header: netlink.Header{Type: msgMapping}, Data: mapping(family)}
		if n := parseNotice(m); n.Moved == nil || *n.Moved != want {
			t.Errorf("%+v, want %+v", n.Moved, want)
		}
		m.Data = m.Data[:63]
		if n := parseNotice(m); n != (Notice{}) {
			t.Errorf("what is cut is %+v", n)
		}
	}
	if n := parseNotice(netlink.Message{Header: netlink.Header{Type: msgMapping}, Data: mapping(77)}); n != (Notice{}) {
		t.Errorf("another family is %+v", n)
	}
}

func TestNotice(t *testing.T) {
	message := func(typ uint16, data []byte) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(typ)}, Data: data}
	}
	want := ID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: 50}
	for hard := range byte(2) {
		n := parseNotice(message(msgExpire, expire(hard)))
		if n.Expired == nil || n.Expired.ID != want || n.Hard != (hard == 1) || n.Acquire != nil {
			t.Errorf("EXPIRE, hard %d: %+v", hard, n)
		}
	}
	if n := parseNotice(message(msgAcquire, acquire())); n.Acquire == nil || n.Acquire.Dst.String() != "10.2.0.1/32" || n.Acquire.DstPort != 443 || n.Expired != nil {
		t.Errorf("ACQUIRE: %+v", n)
	}
	for _, m := range []netlink.Message{message(msgExpire, expire(1)[:saInfoLen]), message(msgAcquire, acquire()[:90]), message(msgNewSA, expire(1)), {}} {
		if n := parseNotice(m); n != (Notice{}) {
			t.Errorf("%v is %+v, want nothing", m, n)
		}
	}
}

// No message makes the parser read past its end.
func FuzzNotice(f *testing.F) {
	f.Add(uint16(msgExpire), expire(1))
	f.Add(uint16(msgAcquire), acquire())
	f.Add(uint16(msgMapping), mapping(FamilyIPv6))
	f.Fuzz(func(t *testing.T, typ uint16, data []byte) {
		n := parseNotice(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(typ)}, Data: data})
		if n.Expired != nil && n.Acquire != nil {
			t.Errorf("both an EXPIRE and an ACQUIRE: %+v", n)
		}
	})
}
