package klips_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// The JSON of every change, without keys.
func TestChangeJSON(t *testing.T) {
	esp := klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: klips.ProtoESP}
	tun := klips.SAID{Dst: netip.MustParseAddr("2001:db8::2"), SPI: 0x101, Proto: klips.ProtoTun}
	flow := klips.Selector{Src: netip.MustParsePrefix("10.0.1.0/24"), Dst: netip.MustParsePrefix("10.0.2.0/24"), Proto: 6, DstPort: 80}
	const flowJSON = `{"src":"10.0.1.0/24","dst":"10.0.2.0/24","proto":6,"dport":80}`
	spec := &klips.SASpec{
		ID: esp, Src: netip.MustParseAddr("192.0.2.1"), AuthKey: []byte("secret secret secret"), EncKey: []byte("secret secret se"),
		Transform: klips.Transform{Auth: alg.SHA1, Enc: alg.AES}, Window: 64, Hard: klips.Limits{Bytes: 1000}, Seq: new(uint64(7)),
		NATT: klips.NATT{Type: klips.NATTNonESP, SPort: 4500},
	}
	rows := []struct {
		change klips.Change
		want   string
	}{
		{klips.AddSA{SASpec: spec}, `{"op":"add SA","said":"esp0x100@192.0.2.2","sa":{"src":"192.0.2.1",` +
			`"transform":{"auth":"hmac-sha1","enc":"aes"},"auth_key_bits":160,"enc_key_bits":128,"window":64,"hard":{"bytes":1000},"seq":7,` +
			`"natt":{"type":"nonesp","sport":4500}}}`},
		{klips.DeleteSA{ID: tun}, `{"op":"delete SA","said":"tun0x101@2001:db8::2"}`},
		{klips.ClearSAs{}, `{"op":"clear SAs"}`},
		{klips.Group{IDs: []klips.SAID{tun, esp}}, `{"op":"group","saids":["tun0x101@2001:db8::2","esp0x100@192.0.2.2"]}`},
		{klips.Ungroup{ID: esp}, `{"op":"ungroup","said":"esp0x100@192.0.2.2"}`},
		{klips.SetEroute{Eroute: klips.Eroute{Selector: flow, ID: esp}}, `{"op":"add eroute","said":"esp0x100@192.0.2.2","flow":` + flowJSON + `}`},
		{klips.SetEroute{Eroute: klips.Eroute{Selector: flow, ID: tun, Also: []klips.SAID{esp}}, Replace: true},
			`{"op":"replace eroute","said":"tun0x101@2001:db8::2","also":["esp0x100@192.0.2.2"],"flow":` + flowJSON + `}`},
		{klips.SetPolicy{ID: esp, Policy: flow}, `{"op":"set inbound policy","said":"esp0x100@192.0.2.2","flow":` + flowJSON + `}`},
		{klips.DeleteEroute{Selector: flow}, `{"op":"delete eroute","flow":` + flowJSON + `}`},
		{klips.ClearEroutes{}, `{"op":"clear eroutes"}`},
		{klips.Attach{Virtual: "ipsec0", Physical: "eth0"}, `{"op":"attach","virtual":"ipsec0","physical":"eth0"}`},
		{klips.Detach{Virtual: "ipsec0"}, `{"op":"detach","virtual":"ipsec0"}`},
		{klips.DetachAll{}, `{"op":"detach all"}`},
		{klips.CreateDevice{Virtual: "ipsec2"}, `{"op":"create device","virtual":"ipsec2"}`},
		{klips.DeleteDevice{Virtual: "ipsec2"}, `{"op":"delete device","virtual":"ipsec2"}`},
		{klips.SetDebug{DebugChange: klips.DebugChange{Set: true, Masks: klips.Debug{klips.DebugESP: 8}}}, `{"op":"set debug","masks":{"esp":8},"set":true}`},
		{klips.SetKnobs{Knobs: map[string]int{"tos": 1}}, `{"op":"set","knobs":{"tos":1}}`},
		{klips.SetGuard{Guard: klips.Guard{Selector: flow, In: true, Peer: esp.Dst}}, `{"op":"guard","flow":` + flowJSON + `,"in":true,"peer":"192.0.2.2"}`},
		{klips.RemoveGuard{Selector: flow}, `{"op":"unguard","flow":` + flowJSON + `}`},
		{klips.HoldPort{Port: 4500, Form: klips.NATTNonESP}, `{"op":"open UDP port","port":4500,"form":"nonesp"}`},
	}
	seen := map[string]bool{}
	for _, r := range rows {
		seen[strings.TrimPrefix(fmt.Sprintf("%T", r.change), "klips.")] = true
		got, err := json.Marshal(r.change)
		if err != nil || string(got) != r.want {
			t.Errorf("%v:\n%s, %v\nwant\n%s", r.change, got, err, r.want)
		}
	}
	source, err := os.ReadFile("change.go")
	if err != nil {
		t.Fatal(err)
	}
	types := regexp.MustCompile(`func \((?:c )?(\w+)\) Op\(\) string`).FindAllStringSubmatch(string(source), -1)
	for _, m := range types {
		if !seen[m[1]] {
			t.Errorf("no row has a %s", m[1])
		}
	}
	if len(types) != len(seen) {
		t.Errorf("%d types of changes, rows for %d", len(types), len(seen))
	}
}
