package pfkey

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
)

func sprint(f string, v any) string { return fmt.Sprintf(f, v) }

// Every recorded message of the classic tools is parsed, checked, read as a typed
// request, and built again from that, byte for byte.
func TestRecordedRequests(t *testing.T) {
	var parsed, rebuilt, refused int
	for c := range recorded.Commands(t, recorded.Libreswan332) {
		for i, raw := range c.Messages {
			m, err := Parse(raw)
			if err != nil {
				t.Errorf("%s: Parse(%x) = %v", c.ID, raw, err)
				continue
			}
			parsed++
			got, err := m.Marshal()
			if err != nil || !equalBut(got, raw, i, c.UnstableBytes) {
				t.Errorf("%s: %v, %v:\n%swant\n%s", c.ID, m, err, hex.Dump(got), hex.Dump(raw))
			}
			if err := Check(m); err != nil {
				refused++
				if !mayRefuse(m) {
					t.Errorf("%s: Check(%v) = %v", c.ID, m, err)
				}
				continue
			}
			again, err := rebuild(m)
			if err != nil {
				if !isMixed(m) {
					t.Errorf("%s: %v: %v", c.ID, m, err)
				}
				continue
			}
			again.Seq, again.PID = m.Seq, m.PID
			giveInVain(again, m)
			got, err = again.Marshal()
			switch {
			case err != nil:
				t.Errorf("%s: %v: %v", c.ID, again, err)
			case !equalBut(got, raw, i, c.UnstableBytes) && !asksForNothing(m):
				t.Errorf("%s: rebuilt\n%v\nwant\n%v", c.ID, again, m)
			default:
				rebuilt++
			}
		}
	}
	t.Logf("%d messages parsed, %d rebuilt, %d refused as KLIPS does", parsed, rebuilt, refused)
	if parsed < 1000 || rebuilt < 1000 {
		t.Errorf("only %d parsed and %d rebuilt", parsed, rebuilt)
	}
}

// Older tools send lifetimes of 40 bytes, which the kernel refuses, and garbage in
// reserved fields, which it ignores.
func TestRecordedOlderRequests(t *testing.T) {
	var parsed, long int
	for c := range recorded.Commands(t, recorded.Older...) {
		for i, raw := range c.Messages {
			m, err := Parse(raw)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || e.Errno != syscall.EINVAL ||
					e.Ext != ExtLifetimeHard && e.Ext != ExtLifetimeSoft {
					t.Errorf("%s: Parse(%x) = %v", c.ID, raw, err)
				}
				long++
				continue
			}
			parsed++
			got, err := m.Marshal()
			if err != nil || !equalBut(got, raw, i, c.UnstableBytes) {
				t.Errorf("%s: %v, %v:\n%swant\n%s", c.ID, m, err, hex.Dump(got), hex.Dump(raw))
			}
		}
	}
	t.Logf("%d messages parsed, %d with long lifetimes refused", parsed, long)
	if parsed < 1000 || long == 0 {
		t.Errorf("%d parsed, %d refused", parsed, long)
	}
}

// The recorded messages of a KLIPS kernel.
func TestRecordedReplies(t *testing.T) {
	types := map[Type]int{}
	for x := range recorded.Exchanges(t) {
		for _, e := range x.Events {
			for _, raw := range e.PFKey {
				m, err := Parse(raw)
				if err != nil {
					t.Errorf("%s: Parse(%x) = %v", x.ID, raw, err)
					continue
				}
				types[m.Type]++
				if got, err := m.Marshal(); err != nil || !bytes.Equal(got, raw) {
					t.Errorf("%s: %v, %v:\n%swant\n%s", x.ID, m, err, hex.Dump(got), hex.Dump(raw))
				}
				if err := CheckReply(m); err != nil {
					t.Errorf("%s: CheckReply(%v) = %v", x.ID, m, err)
				}
			}
		}
	}
	t.Log(types)
	for _, want := range []Type{TypeRegister, TypeAcquire, TypeExpire, TypeAdd, TypeGroupSA, TypeAddFlow} {
		if types[want] == 0 {
			t.Errorf("no %v among the recordings", want)
		}
	}
}

// equalBut compares messages, without the bytes of message i that were garbage in the
// recording.
func equalBut(got, want []byte, i int, unstable [][2]int) bool {
	got, want = slices.Clone(got), slices.Clone(want)
	for _, u := range unstable {
		if u[0] == i && u[1] < len(want) && u[1] < len(got) {
			got[u[1]], want[u[1]] = 0, 0
		}
	}
	return bytes.Equal(got, want)
}

// mayRefuse reports whether a recorded message is one that the tools send and the
// kernel refuses.
func mayRefuse(m *Message) bool {
	switch {
	case m.ClearsFlows() && m.Protocol != nil, // without its flow
		m.NATTType != nil && *m.NATTType != 1 && *m.NATTType != 2,
		m.Type == TypeAdd && m.SA.SPI < klips.MinSPI,
		m.Type == TypeAdd && (m.SAType == SATypeAH || m.SAType == SATypeESP) && m.SA.Encrypt == 0 && m.SA.Auth == 0,
		// An AH or ESP SA with the algorithm of --comp, and the reverse.
		m.Type == TypeAdd && m.SAType == SATypeAH && m.SA.Encrypt != 0,
		m.Type == TypeAdd && m.SAType == SATypeComp && m.SA.Encrypt == 0:
		return true
	}
	return false
}

// giveInVain adds what the tools send although no stack uses it.
func giveInVain(m, recorded *Message) {
	switch m.Type {
	case TypeDelFlow:
		if m.ClearsFlows() {
			m.SAType, m.SA.SPI = recorded.SAType, recorded.SA.SPI
		}
	case TypeAddFlow:
		// An --af that contradicts the address.
		if recorded.Src.Addr.Is4() != recorded.Dst.Addr.Is4() {
			m.Src = recorded.Src
		}
	case TypeDelete, TypeGet:
		m.Src, m.SA.Replay = recorded.Src, recorded.SA.Replay
	}
}

func isMixed(m *Message) bool {
	return m.SrcFlow != nil && m.SrcFlow.Addr.Is4() != m.DstFlow.Addr.Is4()
}

// asksForNothing reports whether a message has extensions without an effect: limits
// that were cut to 0, or device number 0.
func asksForNothing(m *Message) bool {
	return m.LifeHard != nil && *m.LifeHard == Lifetime{} || m.LifeSoft != nil && *m.LifeSoft == Lifetime{} ||
		m.PlumbIf != nil && *m.PlumbIf == 0
}

// rebuild turns a message into the types of package klips and back.
func rebuild(m *Message) (*Message, error) {
	switch m.Type {
	case TypeAdd:
		s, err := m.SASpec()
		if err != nil {
			return nil, err
		}
		return AddSA(s), nil
	case TypeDelete, TypeGet:
		id, err := m.SAID()
		if err != nil {
			return nil, err
		}
		if m.Type == TypeGet {
			return GetSA(id), nil
		}
		return DeleteSA(id), nil
	case TypeFlush:
		return Flush(m.SAType), nil
	case TypeGroupSA:
		ids, err := m.Group()
		if err != nil {
			return nil, err
		}
		if len(ids) == 1 {
			return Ungroup(ids[0]), nil
		}
		return GroupPair(ids[0], ids[1]), nil
	case TypeAddFlow:
		e, op, err := m.Eroute()
		if err != nil {
			return nil, err
		}
		return AddFlow(e, op), nil
	case TypeDelFlow:
		if m.ClearsFlows() {
			return ClearFlows(), nil
		}
		s, err := m.Selector()
		if err != nil {
			return nil, err
		}
		return DelFlow(s, m.SAType), nil
	case TypeDebug:
		c, err := m.DebugChange()
		if err != nil {
			return nil, err
		}
		return Debug(c), nil
	case TypePlumbIf, TypeUnplumbIf:
		name, create, err := m.Plumb()
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(name, "mast") && uint16(*m.PlumbIf) >= firstTransport {
			return m, nil // a mast device without a name here
		}
		return Plumb(name, create)
	}
	return nil, fmt.Errorf("%v is no request of the tools", m.Type)
}
