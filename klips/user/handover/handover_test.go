package handover

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/replay"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// full is a state in which every field has its own value.
func full() *State {
	said := klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x1001, Proto: klips.ProtoESP}
	sel := klips.Selector{
		Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16"), Proto: 6, SrcPort: 1, DstPort: 2,
	}
	return &State{
		Now: 7, Debug: klips.Debug{1, 2, 0xffffffff}, Knobs: []klips.Knob{{Name: "icmp", Value: 1}, {Name: "tos"}},
		SAs: sadb.SavedDB{
			LastRef: 9, Groups: [][]int{{1, 0}},
			SAs: []sadb.Saved{{
				SASpec: klips.SASpec{
					ID: said, Src: netip.MustParseAddr("192.0.2.1"), Transform: klips.Transform{Auth: 3, Enc: 12},
					AuthKey: []byte("authentication"), EncKey: []byte("encryption"), Window: 128, ESN: true,
					Soft: klips.Limits{Allocations: 1, Bytes: 2, AddTime: 3, UseTime: 4, Packets: 5}, Hard: klips.Limits{Bytes: 6},
					NATT: klips.NATT{Type: 2, SPort: 4500, DPort: 4501, OA: netip.MustParseAddr("10.0.0.1")}, Ref: 7, RefHim: 8, OutIf: 49152,
				},
				Dir: klips.Outbound, State: klips.Dying, IV: []byte{1, 2, 3}, Added: -5, FirstUse: 6, LastUse: 7,
				Bytes: 8, Packets: 9, Uncompressed: 10, Compressed: 11, AuthErrs: 12, ReplayErrs: 13, SizeErrs: 14, PadErrs: 15,
				BelowMark: 17, SeqWaits: 18, Drops: drop.Counts{"bad-icv": 19, "no-sa": 20}, Began: 21, Remembered: 22,
				Policy: &sel,
				Seq:    1 << 40, Replay: replay.Saved{Size: 128, Last: 77, MaxDiff: 3, Words: []uint64{1, 2, 3, 4}}, KeyRank: 16,
			}, {SASpec: klips.SASpec{ID: klips.SAID{Dst: netip.MustParseAddr("2001:db8::2"), SPI: 0x1002, Proto: klips.ProtoTun}, CopyTOS: true}}},
		},
		Paths: []Path{{ID: said, Device: "ipsec0", Src: netip.MustParseAddr("192.0.2.1")}},
		Eroutes: []Eroute{
			{Eroute: klips.Eroute{Selector: sel, ID: said, Also: []klips.SAID{{Dst: said.Dst, SPI: 0x1003, Proto: klips.ProtoTun}, {Dst: said.Dst, SPI: 0x1005, Proto: klips.ProtoTun}}, Packets: 3, PID: -1, IdentSrc: &klips.Ident{Type: 2, ID: 3, Text: "a.example"}}, LastUse: 4},
			{Eroute: klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix("::/0"), Dst: netip.MustParsePrefix("::/0")}, IdentDst: new(klips.Ident)}},
		},
		Holds: []Hold{
			{Route: sel, Since: 5, Trap: 0x100, InPlace: true, First: &Packet{"ipsec0", []byte{0x45}}, Last: &Packet{"ipsec1", []byte{0x60}}},
			{Route: sel},
		},
		Expired: 1, Evicted: 2,
		Devices: []Device{{
			Name: "ipsec0", Stats: klips.DeviceStats{TxPackets: 1, TxBytes: 2, TxErrors: 3, TxDropped: 4, RxPackets: 5, RxBytes: 6, RxErrors: 7, RxDropped: 8},
			EverAttached: true, Attached: true, AttMTU: 1500, Wanted: "eth0", WantedIndex: 2, Drops: drop.Counts{"no-eroute": 9}, ChosenMTU: 1438, Direct: true,
		}, {Name: "ipsec1"}},
		Drops:    drop.Counts{"not-esp": 3},
		PathMTUs: []PathMTU{{ID: said, MTU: 1400, Until: 99}},
		Heard:    []Heard{{ID: said, Addr: netip.MustParseAddr("192.0.2.9"), Port: 30001}},
	}
}

var compare = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
	cmpopts.EquateEmpty(),
}

// Open returns the state that was sealed, including keys, and nobody can change the
// file.
func TestSeal(t *testing.T) {
	for _, s := range []*State{full(), {}} {
		f, err := Seal(s)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := Open(f)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(s, got, compare); d != "" {
			t.Errorf("read otherwise than written (-want +got):\n%s", d)
		}
		if _, err := f.WriteAt([]byte{1}, 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("writing: %v, want EPERM", err)
		}
		if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
			t.Errorf("truncating: %v, want EPERM", err)
		}
		got.Clear()
		for _, sa := range got.SAs.SAs {
			if sa.AuthKey != nil || sa.EncKey != nil {
				t.Error("a key is left after Clear")
			}
		}
	}
}

// A file that is incomplete, not sealed, or of an unknown version is refused.
func TestRefused(t *testing.T) {
	s := full()
	b := make([]byte, size(s))
	write(b, s)
	for n := range b {
		if _, err := read(b[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("the first %d of %d bytes: %v, want ErrFormat", n, len(b), err)
		}
	}
	if _, err := read(append(b, 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("one byte more: %v, want ErrFormat", err)
	}
	other := append([]byte(nil), b...)
	var v *VersionError
	for _, n := range []byte{oldest - 1, version + 1} {
		other[len(magic)] = n
		if _, err := read(other); !errors.As(err, &v) || v.Version != uint64(n) {
			t.Errorf("version %d: %v", n, err)
		}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(f); !errors.Is(err, ErrFormat) {
		t.Errorf("a file that is not sealed: %v, want ErrFormat", err)
	}
}

// Files of older versions are read: version-N is full without later fields, as the last
// program of version N wrote it.
func TestOlder(t *testing.T) {
	v6 := full()
	v6.Heard = nil
	v5 := full()
	v5.Heard, v5.Eroutes[0].Also = nil, nil
	v4 := full()
	v4.Heard, v4.Eroutes[0].Also, v4.Devices[0].Direct = nil, nil, false
	older := func() *State {
		s := full()
		s.Heard, s.Eroutes[0].Also = nil, nil
		s.SAs.SAs[1].CopyTOS, s.PathMTUs, s.Devices[0].Direct = false, nil, false
		return s
	}
	v2 := older()
	v2.Devices[0].ChosenMTU = 0
	v1 := older()
	v1.Devices[0].ChosenMTU = 0
	v1.Drops, v1.Devices[0].Drops = nil, nil
	sa := &v1.SAs.SAs[0]
	sa.BelowMark, sa.SeqWaits, sa.Drops, sa.Began, sa.Remembered = 0, 0, nil, 0, 0
	readOlder(t, "version-1", v1)
	readOlder(t, "version-2", v2)
	readOlder(t, "version-3", older())
	readOlder(t, "version-4", v4)
	readOlder(t, "version-5", v5)
	readOlder(t, "version-6", v6)
}

func readOlder(t *testing.T, file string, want *State) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	got, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, compare); d != "" {
		t.Errorf("read otherwise than written (-want +got):\n%s", d)
	}
	for n := range b {
		if _, err := read(b[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("the first %d of %d bytes: %v, want ErrFormat", n, len(b), err)
		}
	}
}

// The decoder accepts or refuses any input, and writes what it accepted again
// unchanged.
func FuzzRead(f *testing.F) {
	for _, s := range []*State{full(), {}} {
		b := make([]byte, size(s))
		write(b, s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := read(b)
		if err != nil {
			return
		}
		again := make([]byte, size(s))
		write(again, s)
		if b[len(magic)] < version { // the newest version is written
			if s, err = read(again); err != nil {
				t.Fatal(err)
			}
			b, again = again, make([]byte, size(s))
			write(again, s)
		}
		if string(again) != string(b) {
			t.Errorf("%x was read, and %x is written", b, again)
		}
	})
}
