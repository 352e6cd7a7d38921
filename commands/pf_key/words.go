package pf_key

import (
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// inWords returns a message in words, on one line: its type, and the SAs, addresses, algorithms
// and limits in it. It has no keys.
func inWords(b []byte) string {
	m, err := pfkey.Parse(b)
	if err != nil {
		return "a message that is not valid: " + err.Error()
	}
	defer m.Clear()
	l := []string{m.Type.String()}
	add := func(format string, args ...any) { l = append(l, fmt.Sprintf(format, args...)) }
	if m.Errno != 0 {
		add("refused (%s)", explain.Reason(m.Errno))
	}
	switch m.Type {
	case pfkey.TypeGroupSA:
		if ids, err := m.Group(); err == nil {
			for _, id := range ids {
				add("%v", id)
			}
		}
	case pfkey.TypeAddFlow, pfkey.TypeDelFlow:
		if e, _, err := m.Eroute(); err == nil && m.SA != nil {
			add("%v => %v", e.Selector, e.ID)
		} else if s, err := m.Selector(); err == nil {
			add("%v", s)
		}
	case pfkey.TypeAcquire:
		if m.Src != nil && m.Dst != nil {
			add("from %v to %v", m.Src, m.Dst)
		}
	case pfkey.TypeNATTMapping:
		if m.SA != nil && m.Src != nil && m.Dst != nil && m.NATTSPort != nil && m.NATTDPort != nil {
			add("SPI %#x, the peer was %v port %d and is %v port %d", uint32(m.SA.SPI), m.Src, *m.NATTSPort, m.Dst, *m.NATTDPort)
		}
	default:
		l = append(l, saInWords(m)...)
	}
	if m.SAType != 0 && len(l) == 1 {
		add("for %v", m.SAType)
	}
	add("seq=%d", m.Seq)
	if m.PID != 0 {
		add("pid=%d", m.PID)
	}
	return strings.Join(l, " ")
}

// saInWords returns what a message has about one SA.
func saInWords(m *pfkey.Message) (l []string) {
	add := func(format string, args ...any) { l = append(l, fmt.Sprintf(format, args...)) }
	id, err := m.SAID()
	if err != nil {
		return nil
	}
	add("%v", id)
	if m.Src != nil && m.Src.Addr.IsValid() && !m.Src.Addr.IsUnspecified() {
		add("from %v", m.Src.Addr)
	}
	if m.SA != nil && (m.Type == pfkey.TypeAdd || m.Type == pfkey.TypeUpdate || m.Type == pfkey.TypeGet || m.Type == pfkey.TypeExpire) {
		t := klips.Transform{Auth: m.SA.Auth, Enc: alg.Enc(m.SA.Encrypt)}
		if id.Proto == klips.ProtoComp {
			t = klips.Transform{Comp: alg.Comp(m.SA.Encrypt)}
		}
		add("%s", t.Name(id.Proto))
		if m.SA.Replay != 0 {
			add("window=%d", m.SA.Replay)
		}
	}
	for _, life := range [...]struct {
		what string
		*pfkey.Lifetime
	}{{"soft", m.LifeSoft}, {"hard", m.LifeHard}} {
		if life.Lifetime == nil {
			continue
		}
		if m.Type == pfkey.TypeExpire {
			add("its %s limit has passed", life.what)
		}
		for _, n := range [...]struct {
			name  string
			value uint64
		}{{"allocations", uint64(life.Allocations)}, {"bytes", life.Bytes}, {"addtime", life.AddTime}, {"usetime", life.UseTime}} {
			if n.value != 0 {
				add("%s-%s=%d", life.what, n.name, n.value)
			}
		}
	}
	return l
}
