package pfkey

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// records reads data as records of a type. What can be read is sent as a listing
// and read again: it is the same.
func records[T any](t *testing.T, table Table, data []byte) {
	t.Helper()
	in := &Message{}
	in.XTable, in.XData = &table, new(Data(data))
	want, err := AppendRecords[T](nil, in)
	if err != nil {
		return
	}
	var got []T
	request := ListTable(table)
	err = SendList(request, slices.Values(want), func(m *Message) error {
		b, err := m.Marshal()
		if err != nil {
			return err
		}
		if m, err = Parse(b); err != nil {
			return err
		}
		got, err = AppendRecords(got, m)
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
	seed := func(l *Message, err error) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(*l.XData))
	}
	h := Header{Type: TypeXStatus}
	seed(StatusReply(h, klips.SA{ID: id, Next: []klips.SAID{id}, IV: []byte{1, 2}, Policy: &klips.InboundPolicy{Src: any6, Dst: any6}, Transform: klips.Transform{Enc: alg.AES}}))
	seed(StatusReply(h, klips.Eroute{ID: id, Selector: klips.Selector{Src: any6, Dst: any6, Proto: 6, DstPort: 80}, IdentSrc: &klips.Ident{Type: 1, Text: "a"}}))
	seed(StatusReply(h, klips.Device{Name: "ipsec0", Physical: "eth0"}))
	seed(StatusReply(h, klips.Debug{1, 2}))
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
		m := &Message{}
		if err := m.DecodeStatus(&v); err == nil {
			t.Fatal("a status without data is read")
		}
		m.XData = new(Data(data))
		_ = m.DecodeStatus(&v)
	})
}
