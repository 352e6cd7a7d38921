package batch

import (
	"os"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// TestNotes: notes about eroutes and groups come after the last command of a file,
// because a later line may have corrected the fault. They have the line of the command.
func TestNotes(t *testing.T) {
	esp := strings.Replace(espSA, "0x101@192.0.2.2", "0x101@192.0.2.3", 1)
	wrong := strings.Replace(group, "0x101@192.0.2.2", "0x101@192.0.2.3", 1)
	const missing = "ipsec eroute: note: there is no SA tun0x100@192.0.2.2; packets of this eroute are dropped until it is made (ipsec spi)\n"
	for _, tt := range []struct{ name, text, want string }{
		{"the SA is there", tunSA + route, ""},
		{"the SA comes later", route + tunSA, ""},
		{"the SA does not come", "\n" + route, "ipsec batch: f:2: " + missing},
		{"the SA goes", tunSA + route + "spi --del --said tun0x100@192.0.2.2\n", "ipsec batch: f:2: " + missing},
		{"the eroute goes", route + "eroute --clear\n", ""},
		{"the eroute gets another SA", route + strings.NewReplacer("--add", "--replace", "tun0x100@192.0.2.2", "%drop").Replace(route), ""},
		{"many of one kind", route + strings.Replace(route, "10.0.2", "10.0.3", 1), "ipsec batch: f:1: " + missing},
		{"refused", route + route, "ipsec batch: f:2: ipsec eroute: 10.0.1.0/24 -> 10.0.2.0/24: there is an eroute with these addresses, masks, protocol and ports; use --replace, or remove it first with --del\n" +
			"ipsec batch: note: nothing was done\n"},
		{"group", tunSA + esp + wrong, "ipsec batch: f:3: ipsec spigrp: note: esp0x101@192.0.2.3 and tun0x100@192.0.2.2 have different destinations; " +
			"a packet goes to one of the two hosts, which does not have the SA of the other: a tun SA to 192.0.2.3 has to stand before esp0x101@192.0.2.3\n"},
		{"group taken apart", tunSA + esp + wrong + "spigrp --said tun0x100@192.0.2.2\n", ""},
		{"label", "eroute --label here" + route[len("eroute"):], "ipsec batch: f:1: " + strings.Replace(missing, "eroute:", "eroute --label here:", 1)},
	} {
		t.Chdir(t.TempDir())
		if err := os.WriteFile("f", []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"f"}, {"--keep-going", "f"}} {
			r := clitest.Run(app(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(newModel()) }}, args...)
			if tt.name == "refused" && len(args) > 1 {
				continue // the first eroute remains, and has a note
			}
			if r.Err != tt.want {
				t.Errorf("%s, batch %v:\n got %q\nwant %q", tt.name, args, r.Err, tt.want)
			}
		}
	}
}

// TestNotesOfPipe: commands from a pipe get their notes after the last command too,
// however fast they arrive.
func TestNotesOfPipe(t *testing.T) {
	const want = "ipsec batch: standard input:2: ipsec eroute: note: there is no SA tun0x101@192.0.2.2; packets of this eroute are dropped until it is made (ipsec spi)\n"
	in := strings.NewReader(route + strings.NewReplacer("tun0x100", "tun0x101", "10.0.2", "10.0.3").Replace(route) + tunSA)
	r := clitest.Run(app(), clitest.World{In: in, Wrap: func(*clitest.Stack) klips.Stack { return serial.New(newModel()) }}, "-")
	if r.Err != want || r.Status != 0 {
		t.Errorf("status %d, %q, want %q", r.Status, r.Err, want)
	}
}
