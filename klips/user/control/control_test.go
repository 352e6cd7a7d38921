package control

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// fataler has the methods of *testing.T and *rapid.T that are used here.
type fataler interface {
	Helper()
	Fatal(...any)
}

func wire(t fataler, m *pfkey.Message) *pfkey.Message {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > pfkey.MaxMessage {
		t.Fatal("message of ", len(b), " bytes")
	}
	back, err := pfkey.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, back, byAddr, cmpopts.IgnoreFields(pfkey.Message{}, "Unnumbered")); d != "" {
		t.Fatal("comes back otherwise:\n", d)
	}
	return back
}

var (
	gw     = netip.MustParseAddr("192.1.2.45")
	gw6    = netip.MustParseAddr("2001:db8::45")
	p2     = netip.MustParseAddr("10.0.0.2")
	byAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
)

func said(p klips.Proto, spi klips.SPI, dst netip.Addr) klips.SAID {
	return klips.SAID{Dst: dst, SPI: spi, Proto: p}
}

// threeSAs are the SAs of the recorded messages.
func threeSAs() []klips.SAID {
	return []klips.SAID{said(klips.ProtoTun, 0x113, gw), said(klips.ProtoESP, 0x115, gw6), said(klips.ProtoAH, 0xffffffff, p2)}
}

// TestBytes compares messages with recorded bytes: a daemon and a client of different
// versions of this program must understand each other.
func TestBytes(t *testing.T) {
	want := recorded(t)
	ids := threeSAs()
	spec := &klips.SASpec{
		ID: ids[0], Window: 1000, ESN: true, ReuseKey: true, Seq: new(uint64(1<<63 + 5)), ReplaySeq: new(uint64),
		Soft: klips.Limits{Packets: 3}, Hard: klips.Limits{Packets: 4}, NATT: klips.NATT{OA: gw},
	}
	sel := klips.Selector{Src: netip.MustParsePrefix("10.0.0.0/8"), Dst: netip.MustParsePrefix("10.1.0.0/16"), Proto: 6}
	must := func(m *pfkey.Message, err error) *pfkey.Message {
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	failed := pfkey.ErrorReply(Group(ids).Header, syscall.ENOENT)
	NameObject(failed, ids[2].String())
	messages := map[string]*pfkey.Message{
		"GROUP": Group(ids), "ATTACH": Attach("ipsec0", "eth0", false), "ATTACH direct": Attach("ipsec0", "eth0", true), "DETACH": Detach("ipsec12"), "DETACHALL": DetachAll(),
		"LIST table": ListTable(TableEroutes), "LIST SA": ListSA(ids[1]), "LIST group": ListGroup(ids[0]), "LIST part": ListPart(TableSAs, []byte(`{"a":1}`)),
		"STOP": Stop(), "LEAVE": Leave(), "HANDOVER": must(HandOver(7)), "BEGIN": Begin(), "END": End(), "HOLD": Hold(), "RELEASE": Release(), "STATUS": Status(), "KEYS": Keys(ids[1]), "TRACE": must(Trace(klips.Flow{Src: gw, Dst: gw, Proto: 17, SrcPort: 1, DstPort: 2})),
		"KEYS reply": KeysReply(Keys(ids[1]).Header, klips.Keys{AuthKey: []byte{1, 2, 3}, EncKey: []byte{4}, Marked: true}),
		"SET":        must(Set(map[string]int{"tos": 1})), "GUARD": must(Guard(klips.Guard{Selector: sel})), "UNGUARD": must(Unguard(sel)),
		"ADDFLOW also": SetEroute(klips.SetEroute{Eroute: klips.Eroute{Selector: sel, ID: ids[0], Also: []klips.SAID{said(klips.ProtoTun, 0x117, gw), said(klips.ProtoESP, 0x119, gw)}}}),
		"ADD":          AddSA(spec), "STATUS reply": must(ValueReply(Status().Header, map[string]int{"PID": 42})),
		"GROUP failed": failed, "ADD key used": KeyUsed(AddSA(spec).Header, ids[1]),
	}
	n := 0
	err := SendList(ListTable(TableVersion), slices.Values([]string{"a", "bc"}), func(m *pfkey.Message) error {
		n++
		copied := *m
		messages["LIST reply "+strconv.Itoa(n)] = &copied
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = SendPart(ListPart(TableVersion, nil), slices.Values([]string(nil)), func() any { return "here" }, func(m *pfkey.Message) error {
		messages["LIST part reply"] = m
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range messages {
		if got := hex.EncodeToString(mustMarshal(t, wire(t, m))); got != want[name] {
			t.Errorf("%s: sent as\n%s, want\n%s", name, got, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s: recorded, and not made here", name)
	}
}

// recorded returns the messages in testdata/messages.txt, as hex text, by name.
func recorded(t testing.TB) map[string]string {
	t.Helper()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		skip.Without(t, skip.LittleEndian, "the bytes would differ")
	}
	text, err := os.ReadFile("testdata/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]string)
	name := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if n, ok := strings.CutPrefix(line, "# "); ok {
			name = n
		} else {
			m[name] = line
		}
	}
	return m
}

func TestRequests(t *testing.T) {
	ids := threeSAs()
	m := wire(t, Group(ids))
	if got, err := GroupOf(m); err != nil || !slices.Equal(got, ids) {
		t.Errorf("GroupOf = %v, %v, want %v", got, err, ids)
	}
	m = wire(t, pfkey.GroupPair(ids[0], ids[1]))
	if got, err := GroupOf(m); err != nil || !slices.Equal(got, ids[:2]) {
		t.Errorf("GroupOf = %v, %v, want %v", got, err, ids[:2])
	}
	for _, direct := range []bool{false, true} {
		m = wire(t, Attach("ipsec0", "eth0", direct))
		if v, p, err := DevicesOf(m); v != "ipsec0" || p != "eth0" || err != nil || DirectOf(m) != direct {
			t.Errorf("DevicesOf = %q, %q, %v; DirectOf = %v, want %v", v, p, err, DirectOf(m), direct)
		}
	}
	m = wire(t, Detach("ipsec0123456789"))
	if v, p, err := DevicesOf(m); v != "ipsec0123456789" || p != "" || err != nil {
		t.Errorf("DevicesOf = %q, %q, %v", v, p, err)
	}
	for _, m := range []*pfkey.Message{
		Group(ids), Attach("ipsec0", "eth0", false), Attach("ipsec0", "eth0", true), Detach("ipsec0"), DetachAll(), ListTable(TableSAs), ListSA(ids[1]), ListGroup(ids[1]),
		ListPart(TableSAs, nil), ListPart(TableEroutes, []byte("7")), Stop(), Status(), Begin(), End(), Hold(), Release(),
	} {
		if err := Check(wire(t, m)); err != nil {
			t.Errorf("Check(%v) = %v", m, err)
		}
		if err := pfkey.Check(m); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("pfkey.Check(%v) = %v, want EINVAL", m, err)
		}
	}
}

func TestPlace(t *testing.T) {
	for _, tt := range []struct {
		request *pfkey.Message
		part    bool
		place   int // -1: none is set
		err     error
	}{
		{ListTable(TableSAs), false, -1, nil},
		{ListPart(TableSAs, nil), true, -1, nil},
		{ListPart(TableSAs, []byte("7")), true, 7, nil},
		{ListPart(TableSAs, []byte("x")), false, -1, syscall.EINVAL},
		{ListPart(TableSAs, []byte(`"7"`)), false, -1, syscall.EINVAL},
	} {
		place := -1
		part, err := PlaceOf(wire(t, tt.request), &place)
		if part != tt.part || place != tt.place || !errors.Is(err, tt.err) {
			t.Errorf("PlaceOf(%v) = %v, %d, %v, want %v, %d, %v", tt.request, part, place, err, tt.part, tt.place, tt.err)
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	ids := threeSAs()
	edit := func(m *pfkey.Message, f func(*pfkey.Message)) *pfkey.Message { f(m); return m }
	set, _ := Set(nil)
	for _, m := range []*pfkey.Message{
		Group(ids[:1]), Group([]klips.SAID{ids[0], said(17, 0x100, gw)}), Group(nil), Group(slices.Repeat(ids[:1], 5)), Group(slices.Repeat(ids[:1], 16)), request(TypeGroup),
		Group([]klips.SAID{ids[0], said(klips.ProtoESP, 0x100, netip.MustParseAddr("::ffff:1.2.3.4"))}), Group([]klips.SAID{{}, {}}),
		Attach("", "eth0", false), Attach("ipsec0", "", false), Attach("ipsec0", "a/b", false), Detach("a b"), Attach("ipsec0123456789x", "eth0", false),
		Attach("ipsec0", strings.Repeat("x", 1000), false), request(TypeAttach, deviceExt(ExtVirtual, "ipsec0")), request(TypeDetach),
		ListTable(0), ListTable(TableGroup), ListTable(TableGroup + 1), request(TypeList),
		request(TypeList, saidsExt(ids...), numberExt(ExtTable, uint32(TableSAs))),
		request(TypeList, saidsExt(ids[0]), numberExt(ExtTable, uint32(TableEroutes))),
		request(TypeList, saidsExt(ids[0]), numberExt(ExtTable, uint32(TableSAs)), placeExt(nil)),
		ListPart(TableDevices, nil), ListPart(0, nil), request(TypeStop, placeExt(nil)),
		request(maxType + 1), request(255), request(TypeStop, numberExt(ExtTable, 1)), request(TypeSet),
		request(TypeStop, numberExt(71, 1)), request(TypeStop, numberExt(ExtReplay+1, 1)), request(TypeStop, numberExt(1000, 1)),
		edit(Stop(), func(m *pfkey.Message) { m.Errno = 1 }),
		edit(Stop(), func(m *pfkey.Message) { m.SAType = pfkey.MaxSAType + 1 }),
		edit(Stop(), func(m *pfkey.Message) { m.SA = &pfkey.SA{} }),
		// Bodies that are cut, too long, or nonzero where they must be zero.
		edit(Group(ids), func(m *pfkey.Message) { m.Private[0].Body = m.Private[0].Body[:20] }),
		edit(Group(ids), func(m *pfkey.Message) { m.Private[0].Body[6] = 1 }),
		edit(Group(ids), func(m *pfkey.Message) { m.Private[0].Body[5] = 5 }),
		edit(Group(ids), func(m *pfkey.Message) { m.Private[0].Body[27] = 1 }),
		edit(Attach("ipsec0", "eth0", false), func(m *pfkey.Message) { m.Private[1].Body[11] = 1 }),
		edit(ListTable(TableSAs), func(m *pfkey.Message) { m.Private[0].Body = make([]byte, 12) }),
		edit(set, func(m *pfkey.Message) { m.Private[0].Body[0] = 9 }),
	} {
		back, err := pfkey.Parse(mustMarshal(t, m))
		if err != nil {
			t.Errorf("Parse(%v) = %v", m, err)
			continue
		}
		if err := Check(back); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Check(%v) = %v, want EINVAL", m, err)
		}
	}
}

// TestSetEroute: the further SAs of an eroute arrive, and a KLIPS kernel refuses them. They
// belong to no inbound policy.
func TestSetEroute(t *testing.T) {
	e := klips.Eroute{
		Selector: klips.Selector{Src: netip.MustParsePrefix("2001:db8:1::/48"), Dst: netip.MustParsePrefix("::/0"), Proto: 17, DstPort: 53},
		ID:       said(klips.ProtoTun, 0x1000, gw6),
	}
	for n := range klips.MaxAlso + 1 {
		for _, replace := range []bool{false, true} {
			e.Also = nil
			for i := range n {
				e.Also = append(e.Also, said(klips.ProtoTun, klips.SPI(0x2000-i), gw6))
			}
			c := klips.SetEroute{Eroute: e, Replace: replace}
			m := wire(t, SetEroute(c))
			if err := Check(m); err != nil {
				t.Errorf("Check(%v) = %v", m, err)
			}
			if err := pfkey.Check(m); (err == nil) != (n == 0) {
				t.Errorf("a KLIPS kernel answers %v to %d further SAs", err, n)
			}
			got, op, err := ErouteOf(m)
			if d := cmp.Diff(e, got, byAddr); err != nil || op != c.ErouteOp() || d != "" {
				t.Errorf("ErouteOf = %v, %v (-want +got):\n%s", op, err, d)
			}
			if reply := wire(t, pfkey.AddFlowReply(m)); len(reply.Private) > 0 {
				t.Errorf("key daemons get %v", reply)
			}
		}
	}
	m := SetEroute(klips.SetEroute{Eroute: e})
	for _, ids := range [][]klips.SAID{{}, slices.Repeat(e.Also, 2), {{}}} {
		m.Private = []pfkey.Extension{saidsExt(ids...)}
		if err := Check(wire(t, m)); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Check with %d further SAs = %v, want EINVAL", len(ids), err)
		}
	}
	in := pfkey.AddFlow(e, klips.ErouteAddIn)
	in.Private = []pfkey.Extension{saidsExt(e.Also...)}
	if _, _, err := ErouteOf(wire(t, in)); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("ErouteOf an inbound policy with further SAs = %v, want EINVAL", err)
	}
}

// TestAddSA: the parameters of an SA that only the embedded stack has arrive.
func TestAddSA(t *testing.T) {
	full := klips.SASpec{
		ID: said(klips.ProtoESP, 0x1000, gw6), Src: netip.MustParseAddr("2001:db8::1"),
		Transform: klips.Transform{Enc: alg.ChaCha20Poly1305}, EncKey: bytes.Repeat([]byte{7}, 36),
		Window: 4096, ESN: true, ReuseKey: true, Align8: true, CopyTOS: true, Seq: new(uint64(1<<64 - 1)), ReplaySeq: new(uint64),
		Soft: klips.Limits{Allocations: 1, Bytes: 2, AddTime: 3, UseTime: 4, Packets: 5},
		Hard: klips.Limits{Allocations: 6, Bytes: 1 << 40, AddTime: 8, UseTime: 9, Packets: 1 << 50},
		NATT: klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4501, OA: gw6},
		Ref:  1, RefHim: 2, OutIf: 49153,
	}
	m := AddSA(&full)
	if err := pfkey.Check(m); err == nil {
		t.Error("a KLIPS kernel takes private extensions")
	}
	if err := Check(m); err != nil {
		t.Error(err)
	}
	back, err := pfkey.Parse(mustMarshal(t, m))
	if err != nil {
		t.Fatal(err)
	}
	got, err := SASpecOf(back)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&full, got, byAddr); d != "" {
		t.Errorf("SASpecOf (-want +got):\n%s", d)
	}

	// Flags must be 1, and only ADD and UPDATE may have them.
	m.Private[slices.IndexFunc(m.Private, func(e pfkey.Extension) bool { return e.Type == ExtESN })].Body[0] = 2
	if err := Check(m); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Check of ESN 2 = %v, want EINVAL", err)
	}
	get := pfkey.GetSA(full.ID)
	get.Private = AddSA(&klips.SASpec{ESN: true}).Private
	if err := Check(get); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Check of GET with ESN = %v, want EINVAL", err)
	}
	// An existing SA has its own numbers.
	for _, spec := range []klips.SASpec{{ID: full.ID, Seq: full.Seq}, {ID: full.ID, ReplaySeq: full.Seq}} {
		m := AddSA(&spec)
		m.SA.Encrypt = uint8(alg.AES)
		if err := Check(m); err != nil {
			t.Errorf("Check(%v) = %v", m, err)
		}
		m.Type = pfkey.TypeUpdate
		if err := Check(m); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Check(%v) = %v, want EINVAL", m, err)
		}
	}
}

func mustMarshal(t fataler, m *pfkey.Message) []byte {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// list sends records through the wire form of a listing.
func list[T any](t fataler, request *pfkey.Message, records iter.Seq[T]) (got []T, messages int) {
	request.Seq, request.PID = 7, 9
	asked, _ := TableOf(request)
	last := false
	err := SendList(request, records, func(m *pfkey.Message) error {
		if last {
			t.Fatal("a message after the last")
		}
		m = wire(t, m)
		if err := CheckReply(m); err != nil {
			t.Fatal(err)
		}
		if table, _ := TableOf(m); m.Seq != 7 || m.PID != 9 || table != asked {
			t.Fatal("not an answer: ", m)
		}
		messages++
		var err error
		got, last, err = AppendRecords(got, m)
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
			// Every message is full: another record would not fit.
			per := maxData / (size + 3)
			if want := (n+per-1)/per + 1; messages != want {
				t.Errorf("%d records of %d bytes: %d messages, want %d", n, size+3, messages, want)
			}
		}
	}
	err := SendList(ListTable(TableVersion), slices.Values([]string{strings.Repeat("x", maxData)}), func(*pfkey.Message) error { return nil })
	if !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("SendList of a giant = %v, want EMSGSIZE", err)
	}
	full := errors.New("full")
	err = SendList(ListTable(TableVersion), slices.Values([]string{"a"}), func(*pfkey.Message) error { return full })
	if err != full {
		t.Errorf("SendList = %v, want the error of send", err)
	}
	bad := request(TypeList, numberExt(ExtTable, uint32(TableSAs)), dataExt([]byte("{\"said\":3}\n")))
	if _, _, err := AppendRecords[klips.SA](nil, bad); err == nil {
		t.Error("AppendRecords takes garbage")
	}
}

func TestStatus(t *testing.T) {
	type status struct{ PID int }
	m, err := ValueReply(Status().Header, status{42})
	if err != nil {
		t.Fatal(err)
	}
	var got status
	if err := ValueOf(wire(t, m), &got); err != nil || got.PID != 42 {
		t.Errorf("ValueOf = %v, %v", got, err)
	}
	if err := CheckReply(m); err != nil {
		t.Error(err)
	}
}

func BenchmarkListEroutes(b *testing.B) {
	e := make([]klips.Eroute, 100_000)
	for i := range e {
		e[i] = klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", i>>8&255, i&255))}, ID: said(50, klips.SPI(i), gw)}
	}
	for b.Loop() {
		var got []klips.Eroute
		err := SendList(ListTable(TableEroutes), slices.Values(e), func(m *pfkey.Message) (err error) {
			got, _, err = AppendRecords(got, m)
			return err
		})
		if err != nil || len(got) != len(e) {
			b.Fatal(err, len(got))
		}
	}
}

// TestListOverSocket reads listings of many messages over a socket.
func TestListOverSocket(t *testing.T) {
	want := make([]klips.Eroute, 5000)
	ten := netip.MustParsePrefix("10.0.0.0/8")
	for i := range want {
		want[i] = klips.Eroute{Selector: klips.Selector{Src: ten, Dst: ten}, ID: said(50, klips.SPI(i), gw)}
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		send := func(m *pfkey.Message) error {
			b, err := m.Marshal()
			if err == nil {
				_, err = c.Write(b)
			}
			return err
		}
		for buf := make([]byte, pfkey.MaxMessage); ; {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			m, err := pfkey.Parse(buf[:n])
			if err != nil {
				t.Error(err)
				return
			}
			if table, _ := TableOf(m); table == TableEroutes {
				err = SendList(m, slices.Values(want), send)
			} else {
				err = send(pfkey.ErrorReply(m.Header, syscall.ENOSYS))
			}
			if err != nil {
				return // the reader has closed its end
			}
		}
	}()
	defer func() { l.Close(); <-done }()
	c, err := pfkey.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := List[klips.Eroute](t.Context(), c, ListTable(TableEroutes))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("List = %d eroutes, %v, want %d", len(got), err, len(want))
	}
	if got, err := List[klips.SA](t.Context(), c, ListTable(TableSAs)); got != nil || !errors.Is(err, syscall.ENOSYS) {
		t.Errorf("List = %v, %v, want ENOSYS", got, err)
	}
	// Records of a wrong type must not disturb later messages.
	if _, err := List[int](t.Context(), c, ListTable(TableEroutes)); err == nil {
		t.Error("List of eroutes as numbers succeeds")
	}
	if got, err := List[klips.Eroute](t.Context(), c, ListTable(TableEroutes)); err != nil || len(got) != len(want) {
		t.Errorf("List after that = %d eroutes, %v", len(got), err)
	}
}
