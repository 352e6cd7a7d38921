package daemon_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// pack puts messages into one input of the fuzzer: each after its length in two
// bytes.
func pack(messages ...*pfkey.Message) (b []byte) {
	for _, m := range messages {
		m.PID = 4242
		w, err := m.Marshal()
		if err != nil {
			panic(err)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(w)))
		b = append(b, w...)
	}
	return b
}

// unpack takes the first message off an input. One that claims another length in
// its header gets the right one, most of the time.
func unpack(b []byte) (m, rest []byte) {
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	n = min(n&0x7fff, len(b))
	m, rest = slices.Clone(b[:n]), b[n:]
	if n >= 16 && n%8 == 0 && m[n-1] != 0x99 {
		m[0] = 2
		binary.NativeEndian.PutUint16(m[4:], uint16(n/8))
	}
	return m, rest
}

// Whatever is sent, it is answered once with the numbers that it had; a listener
// hears only whole messages of KLIPS without keys; and the daemon goes on.
func FuzzMessages(f *testing.F) {
	add, comp := espSpec(0x1002, 1), tunSpec(0x1003)
	comp.ID.Proto, comp.Comp = klips.ProtoComp, klips.CompDeflate
	plumb, _ := pfkey.Plumb("ipsec9", true)
	unplumb, _ := pfkey.Plumb("ipsec9", false)
	flow := trap(klips.SPIHold)
	flow.IdentSrc = &klips.Ident{Type: 3, Text: "who"}
	get := pfkey.GetSPI(said(klips.ProtoESP, 0), local, 0x1002, 0x1004)
	ids := []klips.SAID{said(klips.ProtoTun, 0x1001), add.ID}
	f.Add(pack(pfkey.AddSA(tunSpec(0x1001)), pfkey.AddSA(add), pfkey.GroupPair(ids[0], ids[1]), pfkey.GetSA(ids[1]), pfkey.Ungroup(ids[1]), pfkey.DeleteSA(ids[0])))
	f.Add(pack(get, pfkey.UpdateSA(add), get, pfkey.UpdatePorts(add, 1, 2), pfkey.AddSAPrivate(comp), pfkey.Flush()))
	f.Add(pack(pfkey.Register(pfkey.SATypeESP), pfkey.AddFlow(flow, klips.ErouteAdd), pfkey.AddFlow(flow, klips.ErouteReplace), pfkey.AddFlow(flow, klips.ErouteAddIn), pfkey.DelFlow(flow.Selector), pfkey.ClearFlows()))
	f.Add(pack(pfkey.AddSA(tunSpec(0x1001)), pfkey.AddSA(add), pfkey.GroupAll(ids), pfkey.UpdateSA(add), pfkey.GroupAll(ids), pfkey.ListTable(pfkey.TableSAs), pfkey.ListSA(ids[0])))
	f.Add(pack(plumb, unplumb, pfkey.Attach("ipsec0", "eth0"), pfkey.Detach("ipsec0"), pfkey.DetachAll(), pfkey.Debug(klips.DebugChange{}), pfkey.Status()))
	f.Add(pack(&pfkey.Message{Header: pfkey.Header{Type: pfkey.TypeAcquire, SAType: pfkey.SATypeESP, Errno: 3}}, &pfkey.Message{Header: pfkey.Header{Type: pfkey.TypeExpire, SAType: pfkey.SATypeAH}}))

	rundir, _ := start(f)
	c, err := pfkey.Dial(rundir + "/pfkey.sock")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	sender, listener := open(f, rundir), open(f, rundir)
	listener.ask(pfkey.Register(pfkey.SATypeESP))
	sender.heard()
	f.Fuzz(func(t *testing.T, input []byte) {
		sender.t, listener.t = t, t
		for n := 0; len(input) >= 2 && n < 20; n++ {
			var m []byte
			m, input = unpack(input)
			if len(m) == 0 || len(m) > 1 && pfkey.Type(m[1]) == pfkey.TypeXStop {
				continue
			}
			if _, err := sender.c.Write(m); err != nil {
				t.Fatal(err)
			}
			checkAnswer(t, m, sender)
			if l := sender.heard(); len(l) != 0 {
				t.Fatalf("%x: besides the answer came %x", m, l)
			}
		}
		for _, b := range listener.heard() {
			m, err := pfkey.Parse(b)
			if err != nil {
				t.Fatalf("heard %x: %v", b, err)
			}
			if m.Type >= 64 || m.KeyAuth != nil || m.KeyEncrypt != nil {
				t.Errorf("heard %v", m)
			}
			if err := pfkey.CheckReply(m); err != nil && m.Errno == 0 && m.Type != pfkey.TypeExpire {
				t.Errorf("heard %v: %v", m, err)
			}
		}
		for _, m := range []*pfkey.Message{pfkey.Flush(), pfkey.ClearFlows(), pfkey.DetachAll()} {
			if _, err := c.Call(t.Context(), m); err != nil {
				t.Fatalf("afterwards %v: %v", m.Type, err)
			}
		}
		if l, err := pfkey.List[klips.SA](t.Context(), c, pfkey.ListTable(pfkey.TableSAs)); err != nil || len(l) != 0 {
			t.Errorf("afterwards there are %d SAs, %v", len(l), err)
		}
		sender.heard()
		listener.heard()
	})
}

// checkAnswer reads the answer to a message.
func checkAnswer(t *testing.T, m []byte, s *socket) {
	t.Helper()
	for {
		r := s.read()
		if len(r) < 16 || r[0] != 2 || len(r) != 8*int(binary.NativeEndian.Uint16(r[4:])) {
			t.Fatalf("%x: answered %x", m, r)
		}
		if len(m) < 16 || m[0] != 2 {
			return // no header that could be read
		}
		if r[1] != m[1] || string(r[8:16]) != string(m[8:16]) {
			t.Fatalf("%x: answered %x, which has other numbers", m, r)
		}
		a, err := pfkey.Parse(r)
		if err != nil && pfkey.Type(m[1]) != 0 && (m[1] < 20 || m[1] >= 64 && m[1] <= 70) {
			t.Fatalf("%x: answered %x: %v", m, r, err)
		}
		// A listing goes on until a message without data.
		if err != nil || a.Type != pfkey.TypeXList || a.Errno != 0 || a.XData == nil {
			return
		}
	}
}
