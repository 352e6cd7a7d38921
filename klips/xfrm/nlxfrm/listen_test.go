package nlxfrm

import (
	"net/netip"
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
	f.Fuzz(func(t *testing.T, typ uint16, data []byte) {
		n := parseNotice(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(typ)}, Data: data})
		if n.Expired != nil && n.Acquire != nil {
			t.Errorf("both an EXPIRE and an ACQUIRE: %+v", n)
		}
	})
}
