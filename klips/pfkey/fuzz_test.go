package pfkey

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
)

// FuzzParse: no input makes Parse or the readers of requests panic, and a parsed
// message is the same after it was marshalled and parsed again.
func FuzzParse(f *testing.F) {
	for _, b := range dumps(f) {
		f.Add(b)
	}
	for _, text := range []string{heardAcquire, heardAdd, heardExpire} {
		f.Add(unhex(f, text))
	}
	private := Ack(Header{Type: FirstPrivate})
	private.Private = []Extension{{FirstPrivate, make([]byte, 4)}, {0xffff, make([]byte, 12)}}
	idents := AddSA(&klips.SASpec{ID: said(klips.ProtoTun, 256, gw)})
	idents.IdentSrc, idents.IdentDst = &Ident{Type: 2, Text: "a"}, &Ident{}
	register := RegisterReply(Register(SATypeESP), []Algorithm{{ID: 1}}, []Algorithm{{ID: 2, IV: 8}})
	for _, m := range []*Message{private, idents, register} {
		b, err := m.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			if e := Errno(err); e == 0 {
				t.Fatalf("error without errno: %v", err)
			}
			return
		}
		out, err := m.Marshal()
		if err != nil {
			t.Fatalf("Marshal(%v): %v", m, err)
		}
		back, err := Parse(out)
		if err != nil {
			t.Fatalf("Parse(Marshal(%v)): %v", m, err)
		}
		if d := cmp.Diff(m, back, byAddr, cmp.Comparer(sameKey)); d != "" {
			t.Fatalf("Parse(Marshal()) differs:\n%s", d)
		}
		if again, err := back.Marshal(); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("the second Marshal differs: %v", err)
		}
		// None of these may panic, whether or not the message passes.
		_, _ = Check(m), CheckReply(m)
		use(m)
		_ = m.String()
		m.Clear()
	})
}

func use(m *Message) {
	m.SAID()
	m.SAID2()
	m.Group()
	if s, err := m.SASpec(); err == nil {
		s.ClearKeys()
	}
	m.Eroute()
	m.Selector()
	m.DebugChange()
	m.Plumb()
	m.ClearsFlows()
}
