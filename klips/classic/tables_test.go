package classic_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/syntax"
)

// write writes the tables of a kernel.
func (o odd) write(t *testing.T, tables map[string]string) {
	t.Helper()
	for name, text := range tables {
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// reader is a kernel from which only the tables are read.
func reader(t *testing.T, tables map[string]string) odd {
	s := oddKernel(t, func(m *pfkey.Message) []*pfkey.Message {
		t.Errorf("the kernel was sent %v", m)
		return nil
	})
	s.write(t, tables)
	return s
}

const espLine = "esp0x1004@10.9.0.2 ESP_3DES: dir=out src=10.9.0.1 life(c,s,h)=addtime(5,0,0)usetime(42949376,0,9) refcount=3\n"

// A line that cannot be parsed does not hide other lines of any table.
func TestUnread(t *testing.T) {
	const oddEroute = "0          [049:9::600]0:0:0/72 ->                    => %drop:6"
	s := reader(t, map[string]string{
		"ipsec_spi":        "tun0x1003@10.9.0.2 IPIP: dir=up\n" + espLine,
		"ipsec_spigrp":     "esp0x1004@10.9.0.2 \nnothing of the kind\n",
		"ipsec_eroute":     "7          10.1.0.0/16        -> 10.2.0.0/16        => esp0x1004@10.9.0.2\n" + oddEroute + "\n",
		"ipsec_tncfg":      "\x1b[2J\nipsec0 -> eth0 mtu=16260(1500) -> 1500\n",
		"ipsec_klipsdebug": "debug_esp=0000\x00\ndebug_ah=00000001.\n",
	})
	ctx := t.Context()
	sas, err := s.SAs(ctx)
	if err != nil || len(sas) != 1 || sas[0].ID.String() != "esp0x1004@10.9.0.2" {
		t.Errorf("SAs = %v, %v", sas, err)
	}
	eroutes, err := s.Eroutes(ctx)
	if err != nil || len(eroutes) != 1 || eroutes[0].Packets != 7 {
		t.Errorf("Eroutes = %v, %v", eroutes, err)
	}
	devices, err := s.Devices(ctx)
	if err != nil || len(devices) != 1 || devices[0].Physical != "eth0" {
		t.Errorf("Devices = %v, %v", devices, err)
	}
	if d, err := s.Debug(ctx); err != nil || d[klips.DebugAH] != 1 {
		t.Errorf("Debug = %v, %v", d, err)
	}
	lines, err := s.Unread(ctx)
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		Table  string
		Number int
		Text   string
		ID     string
	}
	var got []line
	for _, l := range lines {
		got = append(got, line{l.Table, l.Number, l.Text, l.ID.String()})
	}
	none := klips.SAID{}.String()
	if d := cmp.Diff([]line{
		{"ipsec_spi", 1, "tun0x1003@10.9.0.2 IPIP: dir=up", "tun0x1003@10.9.0.2"},
		{"ipsec_spigrp", 2, "nothing of the kind", none},
		{"ipsec_eroute", 2, oddEroute, none},
		{"ipsec_tncfg", 1, "\x1b[2J", none},
		{"ipsec_klipsdebug", 1, "debug_esp=0000\x00", none},
	}, got); d != "" {
		t.Errorf("Unread (-want +got):\n%s", d)
	}
	// Whether an SA exists is unknown if its line cannot be parsed.
	for _, tt := range []struct {
		id   string
		want error
	}{
		{"tun0x1003@10.9.0.2", klips.ErrUnread},
		{"esp0x1004@10.9.0.2", nil},
		{"esp0x1005@10.9.0.2", syscall.ESRCH},
	} {
		id, err := syntax.ParseSAID(tt.id, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := klips.ReadGroup(ctx, s, id); !errors.Is(err, tt.want) {
			t.Errorf("ReadGroup(%s) = %v, want %v", tt.id, err, tt.want)
		}
	}
}

// A file that is not a table is an error.
func TestNoTable(t *testing.T) {
	s := reader(t, nil)
	if err := os.Mkdir(filepath.Join(s.dir, "ipsec_eroute"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Eroutes(t.Context()); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("Eroutes of a directory = %v, want EISDIR", err)
	}
	if _, err := s.Unread(t.Context()); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("Unread of a directory = %v, want EISDIR", err)
	}
	if _, err := s.Devices(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Devices without a table = %v, want ErrNotExist", err)
	}
}

// A group's member that the kernel has freed is listed and reported.
func TestDangling(t *testing.T) {
	s := reader(t, map[string]string{
		"ipsec_spi":    espLine + strings.Replace(espLine, "1004", "1005", 1) + strings.Replace(espLine, "1004", "1006", 1),
		"ipsec_spigrp": "esp0x1004@10.9.0.2 unk00x0@<invalid> \nesp0x1005@10.9.0.2 esp0x1006@10.9.0.2 \nesp0x1006@10.9.0.2 \n",
	})
	sas, err := s.SAs(t.Context())
	if err != nil || len(sas) != 3 {
		t.Fatalf("SAs = %v, %v", sas, err)
	}
	want := []klips.LinkFault{{Kind: klips.LinkFreed, SA: sas[0].ID}}
	if d := cmp.Diff(want, klips.CheckLinks(sas), cmp.Comparer(func(a, b klips.SAID) bool { return a == b })); d != "" {
		t.Errorf("CheckLinks (-want +got):\n%s", d)
	}
	for _, sa := range sas {
		if group, err := klips.ReadGroup(t.Context(), s, sa.ID); err != nil || group[len(group)-1].ID == (klips.SAID{}) {
			t.Errorf("ReadGroup(%v) = %v, %v", sa.ID, group, err)
		}
	}
}

// The counters of devices come from the net devices.
func TestDeviceStats(t *testing.T) {
	s := reader(t, map[string]string{"ipsec_tncfg": "ipsec0 -> eth0 mtu=16260(1500) -> 1500\nipsec1 -> NULL mtu=0(0) -> 0\n"})
	stats := func() []klips.DeviceStats {
		devices, err := s.Devices(t.Context())
		if err != nil || len(devices) != 2 {
			t.Fatalf("Devices = %v, %v", devices, err)
		}
		return []klips.DeviceStats{devices[0].Stats, devices[1].Stats}
	}
	if got := stats(); got[0] != (klips.DeviceStats{}) {
		t.Errorf("without /proc/net/dev the counters are %+v", got)
	}
	s.write(t, map[string]string{"dev": "Inter-|   Receive |  Transmit\n face |bytes |bytes\n" +
		"  eth0: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n" +
		"ipsec0:     192       3    1    2    0     0          0         0      522       4    5    6    0     0       0          0\n"})
	want := []klips.DeviceStats{{RxBytes: 192, RxPackets: 3, RxErrors: 1, RxDropped: 2, TxBytes: 522, TxPackets: 4, TxErrors: 5, TxDropped: 6}, {}}
	if d := cmp.Diff(want, stats()); d != "" {
		t.Errorf("counters (-want +got):\n%s", d)
	}
}

// The times of an SA are ages, from the table; the kernel's answer has values of its
// clock. Counts are those of the answer, also below zero.
func TestGetSA(t *testing.T) {
	id := klips.SAID{Dst: netip.MustParseAddr("10.9.0.2"), SPI: 0x1004, Proto: klips.ProtoESP}
	s := oddKernel(t, func(m *pfkey.Message) []*pfkey.Message {
		r := pfkey.Ack(m.Header)
		r.LifeCurrent = &pfkey.Lifetime{Allocations: 1, Bytes: 1<<64 - 252, AddTime: 1764000000, UseTime: 1764000001}
		return []*pfkey.Message{r}
	})
	check := func(what string, want klips.Life) {
		t.Helper()
		sa, err := s.GetSA(t.Context(), id)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if d := cmp.Diff(want, sa.Life); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	counts := klips.Life{Allocations: klips.Counter{Count: 1}, Bytes: klips.Counter{Below: 252}}
	clock := counts
	clock.AddTime.Count, clock.UseTime.Count = 1764000000, 1764000001
	check("without tables", clock)
	s.write(t, map[string]string{"ipsec_spi": espLine, "ipsec_spigrp": "esp0x1004@10.9.0.2 \n"})
	age := counts
	age.AddTime.Count, age.UseTime.Hard = 5, 9 // unused: the table's time of use is a clock value
	check("an SA that was not used", age)
	s.write(t, map[string]string{"ipsec_spi": strings.Replace(espLine, "usetime(42949376,0,9)", "usetime(3,0,9) idle=2", 1)})
	age.UseTime.Count = 3
	check("an SA that was used", age)
	s.write(t, map[string]string{"ipsec_spi": strings.Replace(espLine, "1004", "1005", 1)})
	check("an SA that is not listed", clock)
}

// Tables that other programs made KLIPS spoil are read as far as possible, and faults
// are reported.
func TestSpoiledByKLIPS(t *testing.T) {
	b := newBox(t)
	ids := b.add(remote, "esp0x1001", "esp0x1002", "ah0x1003")
	e1, e2, ah := ids[0], ids[1], ids[2]
	b.k.Advance(4 * time.Second)
	b.k.Module(func(m *module.Module) { m.Use(ah, 3, -252) })
	b.k.Advance(3 * time.Second)
	web := klips.Selector{Src: netip.MustParsePrefix("3049:9::/64"), Dst: netip.MustParsePrefix("3049:2::/64"), Proto: 6, SrcPort: 80, DstPort: 80}
	v4 := klips.Eroute{Selector: flow("10.1.0.0/16", 0, 0), ID: e1}
	if err := b.SetEroute(t.Context(), v4, klips.ErouteAdd); err != nil {
		t.Fatal(err)
	}
	b.others(pfkey.GroupPair(e1, ah), pfkey.GroupPair(e2, ah), pfkey.AddFlow(klips.Eroute{Selector: web, ID: klips.Magic(klips.SPIDrop)}, klips.ErouteAdd))

	eroutes, err := b.Eroutes(t.Context())
	if err != nil || len(eroutes) != 1 || eroutes[0].Selector != v4.Selector {
		t.Errorf("Eroutes = %v, %v, want that of IPv4 alone", eroutes, err)
	}
	lines, err := b.Unread(t.Context())
	if err != nil || len(lines) != 1 || lines[0].Table != "ipsec_eroute" || lines[0].Number != 2 || !strings.Contains(lines[0].Text, "=> %drop:6") {
		t.Errorf("Unread = %+v, %v, want line 2 of ipsec_eroute", lines, err)
	}
	sas, err := b.SAs(t.Context())
	if err != nil || len(sas) != 3 {
		t.Fatalf("SAs = %v, %v", sas, err)
	}
	for _, sa := range sas {
		want := klips.Life{AddTime: klips.Counter{Count: 7}}
		if sa.ID == ah {
			want.UseTime.Count, want.Bytes.Below, want.Packets.Count = 3, 252, 3
		}
		if sa.Life != want {
			t.Errorf("%v is listed with %+v, want %+v", sa.ID, sa.Life, want)
		}
		want.Allocations.Count = 1 // the table omits it
		if one, err := b.GetSA(t.Context(), sa.ID); err != nil || one.Life != want {
			t.Errorf("GetSA(%v) = %+v, %v, want %+v", sa.ID, one.Life, err, want)
		}
	}
	if f := klips.CheckLinks(sas); len(f) != 1 || f[0].Kind != klips.LinkShared || f[0].Next != ah {
		t.Errorf("CheckLinks = %+v, want that both are linked to %v", f, ah)
	}
	b.others(pfkey.DeleteSA(e2)) // frees ah
	if sas, err = b.SAs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := klips.CheckLinks(sas); len(f) != 1 || f[0].Kind != klips.LinkFreed || f[0].SA != e1 || f[0].Next.Dst.IsValid() {
		t.Errorf("CheckLinks = %+v, want that %v is linked to what was freed", f, e1)
	}
}
