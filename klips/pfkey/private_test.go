package pfkey

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// fataler is what *testing.T and *rapid.T have in common here.
type fataler interface {
	Helper()
	Fatal(...any)
}

func wire(t fataler, m *Message) *Message {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > MaxMessage {
		t.Fatal("message of ", len(b), " bytes")
	}
	back, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, back, byAddr); d != "" {
		t.Fatal("comes back otherwise:\n", d)
	}
	return back
}

func TestPrivateRequests(t *testing.T) {
	ids := []klips.SAID{
		said(klips.ProtoTun, 0x113, gw), said(klips.ProtoESP, 0x115, gw6), said(klips.ProtoAH, 0xffffffff, p2),
	}
	m := wire(t, GroupAll(ids))
	if got, err := m.Group(); err != nil || !slices.Equal(got, ids) {
		t.Errorf("Group() = %v, %v, want %v", got, err, ids)
	}
	m = wire(t, Attach("ipsec0", "eth0"))
	if v, p, err := m.Devices(); v != "ipsec0" || p != "eth0" || err != nil {
		t.Errorf("Devices() = %q, %q, %v", v, p, err)
	}
	m = wire(t, Detach("ipsec0123456789"))
	if v, p, err := m.Devices(); v != "ipsec0123456789" || p != "" || err != nil {
		t.Errorf("Devices() = %q, %q, %v", v, p, err)
	}
	for _, m := range []*Message{
		GroupAll(ids), Attach("ipsec0", "eth0"), Detach("ipsec0"), DetachAll(), ListTable(TableSAs), ListSA(ids[1]), ListGroup(ids[1]),
		Stop(), Status(),
	} {
		if err := CheckPrivate(wire(t, m)); err != nil {
			t.Errorf("CheckPrivate(%v) = %v", m, err)
		}
		if err := Check(m); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Check(%v) = %v, want EINVAL", m, err)
		}
	}

	noPhysical := Attach("ipsec0", "eth0")
	noPhysical.XPhysical = nil
	long := request(TypeXGroup, 0)
	for _, m := range []*Message{
		GroupAll(ids[:1]), GroupAll([]klips.SAID{ids[0], said(17, 0x100, gw)}),
		GroupAll([]klips.SAID{ids[0], said(klips.ProtoESP, 0x100, netip.MustParseAddr("::ffff:1.2.3.4"))}),
		Attach("", "eth0"), Attach("ipsec0", ""), Attach("ipsec0", "a/b"), Detach("a b"), noPhysical, long,
		ListTable(0), ListTable(TableGroup), ListTable(TableGroup + 1),
	} {
		if err := CheckPrivate(m); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("CheckPrivate(%v) = %v, want EINVAL", m, err)
		}
	}
	// ESN and REUSE are 1, and only ADD has them.
	for _, tt := range []struct {
		text string
		spec klips.SASpec
		set  func(*Message) **Flag
	}{
		{"ESN(1)", klips.SASpec{ID: ids[0], ESN: true}, func(m *Message) **Flag { return &m.XESN }},
		{"REUSE(1)", klips.SASpec{ID: ids[0], ReuseKey: true}, func(m *Message) **Flag { return &m.XReuse }},
	} {
		add := AddSAPrivate(&tt.spec)
		if err := CheckPrivate(wire(t, add)); err != nil || !strings.Contains(add.String(), tt.text) {
			t.Errorf("CheckPrivate(%v) = %v", add, err)
		}
		spec, err := wire(t, add).SASpec()
		if err != nil || spec.ESN != tt.spec.ESN || spec.ReuseKey != tt.spec.ReuseKey {
			t.Errorf("SASpec(%v) = %+v, %v", add, spec, err)
		}
		**tt.set(add) = 2
		if err := CheckPrivate(wire(t, add)); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("CheckPrivate(%v) = %v, want EINVAL", add, err)
		}
		get := GetSA(ids[0])
		*tt.set(get) = new(Flag(1))
		if err := CheckPrivate(wire(t, get)); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("CheckPrivate(%v) = %v, want EINVAL", get, err)
		}
	}
	// SEQ and REPLAY_SEQ are zero or more; an SA that is there has its own numbers.
	for _, n := range []uint64{0, 1, 1<<64 - 1} {
		add := AddSAPrivate(&klips.SASpec{ID: ids[0], Seq: &n})
		if err := CheckPrivate(wire(t, add)); err != nil || !strings.Contains(add.String(), "SEQ("+strconv.FormatUint(n, 10)+")") {
			t.Errorf("CheckPrivate(%v) = %v", add, err)
		}
		spec, err := wire(t, add).SASpec()
		if err != nil || spec.Seq == nil || *spec.Seq != n || spec.ReplaySeq != nil {
			t.Errorf("SASpec(%v) = %+v, %v", add, spec, err)
		}
		add = AddSAPrivate(&klips.SASpec{ID: ids[0], ReplaySeq: &n})
		spec, err = wire(t, add).SASpec()
		if err != nil || spec.ReplaySeq == nil || *spec.ReplaySeq != n || spec.Seq != nil {
			t.Errorf("SASpec(%v) = %+v, %v", add, spec, err)
		}
		add.Type = TypeUpdate
		if err := CheckPrivate(wire(t, add)); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("CheckPrivate(%v) = %v, want EINVAL", add, err)
		}
	}
	for _, m := range []*Message{
		Attach("ipsec0123456789x", "eth0"), GroupAll([]klips.SAID{{}, {}}), AddSA(&klips.SASpec{}),
	} {
		if b, err := m.Marshal(); !errors.Is(err, syscall.EINVAL) || len(b) != 0 {
			t.Errorf("Marshal(%v) = %x, %v, want EINVAL", m, b, err)
		}
	}
	if _, err := Parse(mustMarshal(t, GroupAll([]klips.SAID{ids[0], ids[0], ids[0], ids[0], ids[0]}))); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Parse of a group of five: %v, want EINVAL", err)
	}
}

func mustMarshal(t *testing.T, m *Message) []byte {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// list sends records through the wire form of a listing.
func list[T any](t fataler, request *Message, records iter.Seq[T]) (got []T, messages int) {
	request.Seq, request.PID = 7, 9
	last := false
	err := SendList(request, records, func(m *Message) error {
		if last {
			t.Fatal("a message after the last")
		}
		m = wire(t, m)
		if err := CheckReply(m); err != nil {
			t.Fatal(err)
		}
		if m.Seq != 7 || m.PID != 9 || *m.XTable != *request.XTable {
			t.Fatal("not an answer: ", m)
		}
		last = m.XData == nil
		messages++
		var err error
		got, err = AppendRecords(got, m)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !last {
		t.Fatal("no end")
	}
	return got, messages
}

func genAddr() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "v4") {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "a4")))
		}
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "a6"))).Unmap()
	})
}

func genPrefix() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := genAddr().Draw(t, "addr")
		p, _ := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		return p
	})
}

func genSAID() *rapid.Generator[klips.SAID] {
	return rapid.Custom(func(t *rapid.T) klips.SAID {
		return klips.SAID{
			Dst:   genAddr().Draw(t, "dst"),
			SPI:   klips.SPI(rapid.Uint32Min(0x100).Draw(t, "spi")),
			Proto: rapid.SampledFrom([]klips.Proto{4, 50, 51, 108}).Draw(t, "proto"),
		}
	})
}

func genSA() *rapid.Generator[klips.SA] {
	return rapid.Custom(func(t *rapid.T) klips.SA {
		sa := klips.SA{
			ID: genSAID().Draw(t, "id"), Src: genAddr().Draw(t, "src"),
			Transform: klips.Transform{Auth: alg.SHA256, Enc: alg.AES},
			Dir:       rapid.SampledFrom([]klips.Direction{klips.Outbound, klips.Inbound}).Draw(t, "dir"),
			State:     klips.Mature,
			Window:    rapid.Uint32().Draw(t, "window"), Seq: rapid.Uint64().Draw(t, "seq"),
			Bitmap: rapid.Uint64().Draw(t, "bitmap"), Used: rapid.Bool().Draw(t, "used"),
			Next: rapid.SliceOfN(genSAID(), 0, 3).Draw(t, "next"),
			NATT: klips.NATT{Type: 2, SPort: 65535, DPort: 1},
		}
		sa.Life.Bytes.Count = rapid.Uint64().Draw(t, "bytes")
		if rapid.Bool().Draw(t, "policy") {
			sa.Policy = &klips.InboundPolicy{Src: genPrefix().Draw(t, "from"), Dst: genPrefix().Draw(t, "to"), Proto: rapid.Byte().Draw(t, "protocol"),
				SrcPort: rapid.Uint16().Draw(t, "from port"), DstPort: rapid.Uint16().Draw(t, "to port")}
		}
		if rapid.Bool().Draw(t, "iv") {
			sa.IV = rapid.SliceOfN(rapid.Byte(), 1, 16).Draw(t, "iv bytes")
		}
		if len(sa.Next) == 0 {
			sa.Next = nil
		}
		return sa
	})
}

func TestLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sas := rapid.SliceOfN(genSA(), 0, 5).Draw(t, "sas")
		if got, _ := list(t, ListTable(TableSAs), slices.Values(sas)); !equalLists(t, got, sas) {
			t.Fatal("SAs differ")
		}
		eroutes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) klips.Eroute {
			id := genSAID().Draw(t, "id")
			if rapid.Bool().Draw(t, "magic") {
				id = klips.Magic(klips.SPI(rapid.Uint32Range(0x100, 0x105).Draw(t, "magic spi")))
			}
			return klips.Eroute{
				Selector: klips.Selector{
					Src: genPrefix().Draw(t, "src"), Dst: genPrefix().Draw(t, "dst"),
					Proto: rapid.Byte().Draw(t, "proto"), SrcPort: rapid.Uint16().Draw(t, "sport"),
				},
				ID: id, Packets: rapid.Uint64().Draw(t, "packets"), PID: rapid.Int32().Draw(t, "pid"),
			}
		}), 0, 5).Draw(t, "eroutes")
		if got, _ := list(t, ListTable(TableEroutes), slices.Values(eroutes)); !equalLists(t, got, eroutes) {
			t.Fatal("eroutes differ")
		}
		devices := []klips.Device{{Name: "ipsec0", Physical: "eth0", MTU: 16260, AttMTU: 1500, PhysMTU: 1400,
			Stats: klips.DeviceStats{TxPackets: rapid.Uint64().Draw(t, "tx")}}, {Name: "ipsec1"}}
		if got, _ := list(t, ListTable(TableDevices), slices.Values(devices)); !equalLists(t, got, devices) {
			t.Fatal("devices differ")
		}
		debug := []klips.Debug{{1, 2, 3, rapid.Uint32().Draw(t, "mask")}}
		if got, _ := list(t, ListTable(TableDebug), slices.Values(debug)); !equalLists(t, got, debug) {
			t.Fatal("debug masks differ")
		}
		version := []string{"ipsec version: 1 <&>"}
		if got, _ := list(t, ListTable(TableVersion), slices.Values(version)); !equalLists(t, got, version) {
			t.Fatal("versions differ")
		}
	})
}

func equalLists[T any](t *rapid.T, got, want []T) bool {
	if len(got) == 0 && len(want) == 0 {
		return true
	}
	d := cmp.Diff(want, got, byAddr)
	if d != "" {
		t.Log(d)
	}
	return d == ""
}

func TestLongList(t *testing.T) {
	for _, size := range []int{1, 100, maxData/2 - 3, maxData/2 - 2, maxData - 3} {
		for _, n := range []int{0, 1, 2, 5, 2000} {
			if size*n > 10*maxData {
				continue
			}
			records := slices.Repeat([]string{strings.Repeat("x", size)}, n)
			got, messages := list(t, ListTable(TableVersion), slices.Values(records))
			if !slices.Equal(got, records) {
				t.Fatal("records differ")
			}
			// No message is sent while another record would fit.
			per := maxData / (size + 3)
			if want := (n+per-1)/per + 1; messages != want {
				t.Errorf("%d records of %d bytes: %d messages, want %d", n, size+3, messages, want)
			}
		}
	}
	err := SendList(ListTable(TableVersion), slices.Values([]string{strings.Repeat("x", maxData)}), func(*Message) error { return nil })
	if !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("SendList of a giant = %v, want EMSGSIZE", err)
	}
	full := errors.New("full")
	err = SendList(ListTable(TableVersion), slices.Values([]string{"a"}), func(*Message) error { return full })
	if err != full {
		t.Errorf("SendList = %v, want the error of send", err)
	}
	bad := Ack(Header{Type: TypeXList})
	bad.XTable, bad.XData = new(TableSAs), new(Data("{\"said\":3}\n"))
	if _, err := AppendRecords[klips.SA](nil, bad); err == nil {
		t.Error("AppendRecords takes garbage")
	}
}

func TestStatus(t *testing.T) {
	type status struct{ PID int }
	m, err := StatusReply(Status().Header, status{42})
	if err != nil {
		t.Fatal(err)
	}
	var got status
	if err := wire(t, m).DecodeStatus(&got); err != nil || got.PID != 42 {
		t.Errorf("DecodeStatus = %v, %v", got, err)
	}
	if err := CheckReply(m); err != nil {
		t.Error(err)
	}
}

func TestKeysNotInJSON(t *testing.T) {
	m := AddSA(&klips.SASpec{ID: said(klips.ProtoESP, 256, gw), EncKey: []byte("secret secret!!!")})
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(b); strings.Contains(s, "c2VjcmV0") || strings.Contains(s, "secret") || !strings.Contains(s, `"Bits":128`) {
		t.Errorf("JSON is %s", s)
	}
}

func BenchmarkListEroutes(b *testing.B) {
	e := make([]klips.Eroute, 100_000)
	for i := range e {
		e[i] = klips.Eroute{Selector: selector("10.1.0.0/16", fmt.Sprintf("10.%d.%d.0/24", i>>8&255, i&255)), ID: said(50, klips.SPI(i), gw)}
	}
	for b.Loop() {
		var got []klips.Eroute
		err := SendList(ListTable(TableEroutes), slices.Values(e), func(m *Message) (err error) {
			got, err = AppendRecords(got, m)
			return err
		})
		if err != nil || len(got) != len(e) {
			b.Fatal(err, len(got))
		}
	}
}
