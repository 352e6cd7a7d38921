package pcapng

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/testscripts/skip"
)

// A file is what read returns.
type file struct {
	Application string
	Interfaces  []Interface
	Packets     []Packet
}

// read reads a file as the specification has it: it shares no code with the Writer. Any
// deviation is an error.
func read(b []byte) (f file, err error) {
	for first := true; len(b) > 0; first = false {
		if len(b) < 12 {
			return f, errors.New("a block without room for its type and lengths")
		}
		kind, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		if n < 12 || n%4 != 0 || int64(n) > int64(len(b)) || binary.LittleEndian.Uint32(b[n-4:]) != n {
			return f, fmt.Errorf("a block of %d bytes of %d", n, len(b))
		}
		if first != (kind == 0x0a0d0d0a) {
			return f, fmt.Errorf("a block of type %#x, first: %v", kind, first)
		}
		if err := f.block(kind, b[8:n-4]); err != nil {
			return f, fmt.Errorf("a block of type %#x: %w", kind, err)
		}
		b = b[n:]
	}
	return f, nil
}

// block reads the body of a block.
func (f *file) block(kind uint32, b []byte) error {
	sizes := map[uint32]int{0x0a0d0d0a: 16, 1: 8, 6: 20}
	size, ok := sizes[kind]
	if !ok || len(b) < size {
		return fmt.Errorf("%d bytes", len(b))
	}
	head, rest := b[:size], b[size:]
	u16 := func(at int) uint16 { return binary.LittleEndian.Uint16(head[at:]) }
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(head[at:]) }
	when := func(at int) time.Time { return time.Unix(0, int64(uint64(u32(at))<<32|uint64(u32(at+4)))) }
	switch kind {
	case 0x0a0d0d0a:
		if u32(0) != 0x1a2b3c4d || u16(4) != 1 || u16(6) != 0 || ^binary.LittleEndian.Uint64(head[8:]) != 0 {
			return fmt.Errorf("head %x", head)
		}
		options, err := readOptions(rest)
		f.Application = string(options[4])
		return err
	case 1:
		options, err := readOptions(rest)
		if !bytes.Equal(options[9], []byte{9}) || u16(2) != 0 {
			return fmt.Errorf("if_tsresol %x", options[9])
		}
		f.Interfaces = append(f.Interfaces, Interface{Name: string(options[2]), Description: string(options[3]), Link: LinkType(u16(0)), SnapLen: u32(4)})
		return err
	}
	n := int64(u32(12))
	if padded := (n + 3) / 4 * 4; int64(u32(0)) >= int64(len(f.Interfaces)) || padded > int64(len(rest)) {
		return fmt.Errorf("interface %d, %d bytes", u32(0), n)
	}
	p := Packet{Interface: u32(0), Time: when(4), Data: rest[:n:n], Length: int(u32(16))}
	options, err := readOptions(rest[(n+3)/4*4:])
	p.Comment = string(options[1])
	if flags := options[2]; len(flags) == 4 {
		p.Direction = Direction(binary.LittleEndian.Uint32(flags))
	} else if flags != nil {
		return fmt.Errorf("epb_flags %x", flags)
	}
	f.Packets = append(f.Packets, p)
	return err
}

// readOptions reads options up to the one that ends them, which is the last.
func readOptions(b []byte) (map[uint16][]byte, error) {
	all := map[uint16][]byte{}
	for len(b) >= 4 {
		code, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		b = b[4:]
		if code == 0 {
			if n != 0 || len(b) != 0 {
				return all, fmt.Errorf("%d bytes after the options", len(b))
			}
			return all, nil
		}
		padded := (n + 3) / 4 * 4
		if _, twice := all[code]; twice || padded > len(b) || strings.Trim(string(b[n:padded]), "\x00") != "" {
			return all, fmt.Errorf("option %d of %d bytes", code, n)
		}
		all[code], b = b[:n:n], b[padded:]
	}
	return all, errors.New("the options have no end")
}

// write writes what read returns.
func write(t *testing.T, f file) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, f.Application)
	if err != nil {
		t.Fatal(err)
	}
	for n, i := range f.Interfaces {
		if got, err := w.AddInterface(i); got != uint32(n) || err != nil {
			t.Fatalf("interface %d: %v", got, err)
		}
	}
	for _, p := range f.Packets {
		if err := w.WritePacket(p); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// ping is an ICMP echo request from 10.1.0.1 to 10.2.0.1 with n bytes of data.
func ping(n int) []byte {
	p := append([]byte{0x45, 0, 0, byte(28 + n), 0, 1, 0, 0, 64, 1, 0x65, 0xdd, 10, 1, 0, 1, 10, 2, 0, 1, 8, 0, 0, 0, 0, 1, 0, 1}, make([]byte, n)...)
	return p
}

// example has each field, and data and texts of each length modulo 4.
func example() file {
	f := file{
		Application: "ipsec 1.2.3",
		Interfaces:  []Interface{{Name: "ipsec0", Description: "in clear", Link: LinkRaw}, {Name: "eth0", Link: LinkRaw, SnapLen: 64}},
	}
	for n := range 4 {
		p := Packet{Interface: uint32(n & 1), Time: time.Unix(1700000000, 999999990+int64(n)), Data: ping(n), Length: 28 + n, Direction: Direction(n % 3), Comment: strings.Repeat("é", n)}
		f.Packets = append(f.Packets, p)
	}
	f.Packets = append(f.Packets, Packet{Interface: 1, Time: time.Unix(1700000001, 1), Data: ping(9)[:30], Length: 37, Direction: Outbound, Comment: "esp0x102@192.0.2.2 number 1\nsecond line"})
	return f
}

func TestRoundTrip(t *testing.T) {
	f := example()
	got, err := read(write(t, f))
	if diff := cmp.Diff(f, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// A comment that is too long for an option is cut before a whole character.
func TestLongComment(t *testing.T) {
	f := file{Interfaces: []Interface{{Name: "a", Link: LinkRaw}}, Packets: []Packet{{Data: ping(0), Length: 28, Comment: "a" + strings.Repeat("é", 40000)}}}
	got, err := read(write(t, f))
	if err != nil || len(got.Packets) != 1 {
		t.Fatal(err, len(got.Packets))
	}
	if c := got.Packets[0].Comment; len(c) != 65535 || !utf8.ValidString(c) {
		t.Errorf("a comment of %d bytes, valid: %v", len(c), utf8.ValidString(c))
	}
}

// Each block is one call of Write, and an error of it is returned.
func TestBlocks(t *testing.T) {
	calls := 0
	full := errors.New("full")
	w, err := NewWriter(writeFunc(func(b []byte) (int, error) {
		if calls++; calls == 3 {
			return 0, full
		}
		return len(b), nil
	}), "x")
	if err != nil || calls != 1 {
		t.Fatal(err, calls)
	}
	if _, err := w.AddInterface(Interface{Name: "a"}); err != nil || calls != 2 {
		t.Fatal(err, calls)
	}
	if err := w.WritePacket(Packet{Data: ping(1)}); !errors.Is(err, full) || calls != 3 {
		t.Fatal(err, calls)
	}
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }

// tshark reads a file without a warning.
func TestTshark(t *testing.T) {
	path := skip.WithoutProgram(t, skip.Tshark)
	name := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(name, write(t, example()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-n", "-r", name, "-T", "fields", "-E", "separator=|", "-e", "frame.interface_name", "-e", "frame.interface_description",
		"-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len", "-e", "frame.packet_flags_direction", "-e", "ip.dst", "-e", "icmp.type", "-e", "frame.comment")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	want := `ipsec0|in clear|1700000000.999999990|28|28||10.2.0.1|8|
eth0||1700000000.999999991|29|29|0x00000001|10.2.0.1|8|é
ipsec0|in clear|1700000000.999999992|30|30|0x00000002|10.2.0.1|8|éé
eth0||1700000000.999999993|31|31||10.2.0.1|8|ééé
eth0||1700000001.000000001|30|37|0x00000002|10.2.0.1|8|esp0x102@192.0.2.2 number 1\nsecond line
`
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("%s\n%s", diff, &errs)
	}
	for line := range strings.Lines(errs.String()) {
		if !strings.HasPrefix(line, "Running as user") {
			t.Errorf("tshark warns: %s", line)
		}
	}
}

// What is written is read as it was, whatever the texts and the data.
func FuzzWriter(f *testing.F) {
	f.Add("ipsec 1.2", "eth0", "", "a comment", ping(3), uint8(1), int64(1700000000123456789), 9)
	f.Add("", "", "", "", []byte{}, uint8(0), int64(0), 0)
	f.Add("\xff", "\x00", "é", strings.Repeat("ü", 33000), []byte{1}, uint8(2), int64(1)<<62, 1<<16)
	f.Fuzz(func(t *testing.T, application, name, description, comment string, data []byte, direction uint8, nano int64, cut int) {
		written := file{
			Application: application,
			Interfaces:  []Interface{{Name: name, Description: description, Link: LinkRaw, SnapLen: uint32(cut)}},
			Packets:     []Packet{{Time: time.Unix(0, nano), Data: data, Length: len(data) + cut&0xffff, Direction: Direction(direction % 3), Comment: comment}},
		}
		got, err := read(write(t, written))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []*string{&written.Application, &written.Interfaces[0].Name, &written.Interfaces[0].Description, &written.Packets[0].Comment} {
			*text = strings.ToValidUTF8(*text, "\uFFFD")
			if len(*text) > 65535 {
				*text = strings.ToValidUTF8((*text)[:65535], "")
			}
		}
		if diff := cmp.Diff(written, got); diff != "" {
			t.Error(diff)
		}
	})
}
