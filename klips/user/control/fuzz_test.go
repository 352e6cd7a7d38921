package control

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// records reads data as records of a type. If that succeeds, it sends them as a listing
// and reads the same records.
func records[T any](t *testing.T, table Table, data []byte) {
	t.Helper()
	in := request(TypeList, numberExt(ExtTable, uint32(table)), dataExt(data))
	want, _, err := AppendRecords[T](nil, in)
	if err != nil {
		return
	}
	var got []T
	err = SendList(ListTable(table), slices.Values(want), func(m *pfkey.Message) error {
		b, err := m.Marshal()
		if err != nil {
			return err
		}
		if m, err = pfkey.Parse(b); err != nil {
			return err
		}
		got, _, err = AppendRecords(got, m)
		return err
	})
	if err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
		t.Fatalf("%q: changed on its way (-want +got):\n%s", data, d)
	}
}

// FuzzRecords reads the records of listings and the value of a status.
func FuzzRecords(f *testing.F) {
	id := klips.SAID{Dst: netip.MustParseAddr("192.0.2.1"), SPI: 0x100, Proto: klips.ProtoTun}
	any6 := netip.MustParsePrefix("::/0")
	seed := func(l *pfkey.Message, err error) {
		if err != nil {
			f.Fatal(err)
		}
		data, _, _ := dataOf(l)
		f.Add(data)
	}
	h := pfkey.Header{Type: TypeStatus}
	seed(ValueReply(h, klips.SA{ID: id, Next: []klips.SAID{id}, IV: []byte{1, 2}, Policy: &klips.InboundPolicy{Src: any6, Dst: any6}, Transform: klips.Transform{Enc: alg.AES}}))
	seed(ValueReply(h, klips.Eroute{ID: id, Selector: klips.Selector{Src: any6, Dst: any6, Proto: 6, DstPort: 80}, IdentSrc: &klips.Ident{Type: 1, Text: "a"}}))
	seed(ValueReply(h, klips.Device{Name: "ipsec0", Physical: "eth0"}))
	seed(ValueReply(h, klips.Debug{1, 2}))
	f.Add([]byte("\"a\"\n{}\n"))
	f.Add([]byte(`{"id":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8000 {
			t.Skip("longer than a message")
		}
		records[klips.SA](t, TableSAs, data)
		records[klips.Eroute](t, TableEroutes, data)
		records[klips.Device](t, TableDevices, data)
		records[klips.Debug](t, TableDebug, data)
		records[string](t, TableVersion, data)
		var v map[string]any
		if err := ValueOf(Status(), &v); err == nil {
			t.Fatal("a status without data is read")
		}
		_ = ValueOf(request(TypeStatus, dataExt(data)), &v)
	})
}

// FuzzCheck: no message makes the daemon's readers panic, and a message that Check
// accepts can be read.
func FuzzCheck(f *testing.F) {
	for _, text := range recorded(f) {
		b, err := hex.DecodeString(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := pfkey.Parse(b)
		if err != nil {
			return
		}
		taken := Check(m) == nil
		_ = CheckReply(m)
		_, _ = UnguardedOf(m)
		_, _ = GuardOf(m)
		_, _ = KnobsOf(m)
		_, _, _ = AppendRecords[klips.SA](nil, m)
		_ = ObjectOf(m)
		ids, groupErr := GroupOf(m)
		_, tableErr := TableOf(m)
		virtual, physical, devicesErr := DevicesOf(m)
		if s, err := SASpecOf(m); err == nil {
			s.ClearKeys()
		} else if taken && m.Type == pfkey.TypeAdd && m.Src != nil && !m.Src.Addr.Is4In6() && !m.Dst.Addr.Is4In6() {
			t.Fatalf("%v is taken, and read with %v", m, err)
		}
		switch {
		case !taken:
		case m.Type == TypeGroup && (groupErr != nil || len(ids) < 2 || len(ids) > klips.MaxGroup),
			m.Type == TypeList && tableErr != nil,
			m.Type == TypeAttach && (devicesErr != nil || virtual == "" || physical == ""):
			t.Fatalf("%v is taken, and has %v %v, %v, %q %q %v", m, ids, groupErr, tableErr, virtual, physical, devicesErr)
		}
	})
}
