package daemon_test

import (
	"encoding/binary"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
)

// A fuzzer's input is a short program, not the messages themselves. A message has some
// hundred bytes, and Go's fuzzer needs n² inputs to minimize one of n bytes. So a
// program has one byte for each valid message, and three bytes for each edit of a
// single byte.

// maxSteps is the longest program, in bytes.
const maxSteps = 96

// A step is one thing that a client does.
type step struct {
	client int
	m      []byte // sends this, nil: no message
	await  bool   // reads until all answers are there
	reopen bool   // closes its connection and opens another one
}

// The kinds of bytes in a program; the low six bits are the operand.
const (
	opMessage = 0x00 // the next message is the one with this number
	opEdit    = 0x40 // the next two bytes are the offset and the value
	opClient  = 0x80 // the next steps are those of this client
	opAction  = 0xc0 // await, or reopen
)

// The edits. Bits 0 and 1 of the operand are the high bits of the offset.
const (
	editSet    = iota << 2
	editXor    // with the value
	editCut    // to this number of words
	editDouble // append a copy of this number of the last words
	editTrim   // drop bytes; the length in the header becomes wrong
	editLength // set the length in the header
	editKinds  = 6
)

// templates are the messages that a program can send.
func templates() (l [][]byte) {
	esp, tun, ah, comp := espSpec(0x1002, 1), tunSpec(0x1001), tunSpec(0x1004), tunSpec(0x1003)
	comp.ID.Proto, comp.Comp = klips.ProtoComp, alg.Deflate
	ah.ID.Proto, ah.Auth, ah.AuthKey, ah.Window = klips.ProtoAH, alg.SHA1, esp.AuthKey, 100
	aead := espSpec(0x1005, 2)
	aead.Enc, aead.Auth, aead.AuthKey, aead.EncKey, aead.ESN = alg.AESGCM, 0, nil, make([]byte, 20), true
	aead.Soft.Packets, aead.Hard.Bytes = 10, 1<<20
	plumb, _ := pfkey.Plumb("ipsec9", true)
	unplumb, _ := pfkey.Plumb("ipsec9", false)
	set, _ := control.Set(map[string]int{"tos": 1})
	held, route := trap(klips.SPIHold), trap(klips.SPITrap)
	held.IdentSrc = &klips.Ident{Type: 3, Text: "who"}
	route.ID = tun.ID
	var debug klips.DebugChange
	debug.Set, debug.Masks[0] = true, 7
	for _, m := range []*pfkey.Message{
		pfkey.AddSA(tun), pfkey.AddSA(esp), pfkey.AddSA(ah), control.AddSA(comp), control.AddSA(aead),
		pfkey.GroupPair(tun.ID, esp.ID), control.Group([]klips.SAID{tun.ID, comp.ID, esp.ID, ah.ID}), pfkey.Ungroup(esp.ID),
		pfkey.GetSA(esp.ID), pfkey.DeleteSA(tun.ID), pfkey.DeleteSA(esp.ID), pfkey.Flush(),
		pfkey.GetSPI(said(klips.ProtoESP, 0), local, 0x1002, 0x1004), pfkey.UpdateSA(esp), pfkey.UpdatePorts(esp, 1, 2),
		pfkey.AddFlow(route, klips.ErouteAdd), pfkey.AddFlow(held, klips.ErouteReplace), pfkey.AddFlow(route, klips.ErouteAddIn),
		pfkey.DelFlow(route.Selector), pfkey.ClearFlows(),
		pfkey.Register(pfkey.SATypeESP), pfkey.Debug(debug), set, control.Status(),
		plumb, unplumb, control.Attach("ipsec0", "eth0", false), control.Detach("ipsec0"), control.DetachAll(),
		control.ListTable(control.TableSAs), control.ListTable(control.TableEroutes), control.ListSA(esp.ID),
		{Header: pfkey.Header{Type: pfkey.TypeAcquire, SAType: pfkey.SATypeESP, Errno: 3}},
		{Header: pfkey.Header{Type: pfkey.TypeExpire, SAType: pfkey.SATypeAH}},
	} {
		m.Seq, m.PID = 7, 4242
		b, err := m.Marshal()
		if err != nil {
			panic(err)
		}
		l = append(l, b)
	}
	return l
}

// steps reads a program. A message is sent once its edits are over.
func steps(templates [][]byte, program []byte) (l []step) {
	var now step
	send := func() {
		// A message that stops the daemon would end the test.
		if len(now.m) > 0 && (len(now.m) < 2 || !slices.Contains([]pfkey.Type{control.TypeStop, control.TypeLeave, control.TypeHandOver}, pfkey.Type(now.m[1]))) {
			l = append(l, now)
		}
		now.m = nil
	}
	for program = program[:min(len(program), maxSteps)]; len(program) > 0; {
		op, n := program[0]&0xc0, int(program[0]&0x3f)
		program = program[1:]
		switch op {
		case opMessage:
			send()
			now.m = slices.Clone(templates[n%len(templates)])
		case opEdit:
			if len(program) < 2 {
				program = nil
				break
			}
			if len(now.m) > 0 {
				now.m = edit(now.m, n&^3%(editKinds<<2), n&3<<8|int(program[0]), program[1])
			}
			program = program[2:]
		case opClient:
			send()
			now.client = n
		case opAction:
			send()
			l = append(l, step{client: now.client, await: n&1 == 0, reopen: n&1 != 0})
		}
	}
	send()
	return l
}

// edit changes a message.
func edit(m []byte, kind, at int, value byte) []byte {
	fixed := func(m []byte) []byte {
		if len(m) >= 6 {
			binary.NativeEndian.PutUint16(m[4:], uint16(len(m)/8))
		}
		return m
	}
	switch kind {
	case editXor:
		m[at%len(m)] ^= value
	case editCut:
		return fixed(m[:min(8*at, len(m))])
	case editDouble:
		return fixed(append(m, m[len(m)-min(8*int(value), len(m)):]...))
	case editTrim:
		return m[:len(m)-min(int(value), len(m))]
	case editLength:
		if len(m) >= 6 {
			binary.NativeEndian.PutUint16(m[4:], uint16(at))
		}
	default:
		m[at%len(m)] = value
	}
	return m
}

// seeds are programs that change something.
func seeds() [][]byte {
	var all []byte
	for i := range templates() {
		all = append(all, byte(i))
	}
	return [][]byte{
		all,
		{0, 1, 5, 8, 7, 9},                  // a group is made and taken apart
		{0, 1, 2, 3, 6, 15, 29, 30, 11, 30}, // an eroute outlives its group
		{12, 13, 12, 14, 8, 4, 10},          // an SPI is reserved and used
		{20, 15, 16, 17, 18, 19, 32, 33},    // eroutes, ACQUIRE and EXPIRE
		{24, 26, 27, 25, 28, 21, 22, 23},    // devices
		{0, opEdit | editXor, 19, 3, 1, opEdit, 16, 40, 5}, // other SAIDs
		{1, opEdit | editCut, 4, 0, 1, opEdit | editDouble, 0, 3, 8, opEdit | editTrim, 0, 5, 9, opEdit | editLength, 9, 0},
		{opClient | 1, 20, opClient | 2, 0, 1, 5, 29, 29, opAction, opClient | 1, opAction | 1, 0, opClient, 11, 29},
	}
}
