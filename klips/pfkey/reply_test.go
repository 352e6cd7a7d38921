package pfkey

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// Recorded from a KLIPS kernel.
const (
	heardAcquire = "020600031b00000001000000000000000300050000000000020000000a0100050000000000000000" +
		"0300060000000000020000000a020005000000000000000013000d00400000000203010080008000a800a800" +
		"0000000000000000000000000000000000000000000000000000000000e10000000000008051010000000000" +
		"00e1000000000000805101000000000003030100a000a000a800a80000000000000000000000000000000000" +
		"00000000000000000000000000e1000000000000805101000000000000e10000000000008051010000000000"
	heardAdd = "020300030d0000000100000020020000030001000000110240010203000000000000000000000000" +
		"0300050000000000020000000a09000100000000000000000300060000000000020000000a09000200000000" +
		"0000000002002000020000000000000000000000"
	heardExpire = "0208000913000000010000000000000003000100000011010001000000000000000000000000000004000200" +
		"0100000038010000000000000b5b8f02000000000b5b8f020000000004000400000000002c01000000000000" +
		"000000000000000000000000000000000300050000000000020000000a090001000000000000000003000600" +
		"00000000020000000a0900020000000000000000"
)

func wantBytes(t *testing.T, m *Message, want string) {
	t.Helper()
	dumps(t) // skips on machines with another byte order
	b, err := m.Marshal()
	if err != nil || !bytes.Equal(b, unhex(t, want)) {
		t.Errorf("%v, %v:\n%swant\n%s", m, err, hex.Dump(b), hex.Dump(unhex(t, want)))
	}
	if err := CheckReply(m); err != nil {
		t.Errorf("CheckReply(%v) = %v", m, err)
	}
}

func TestAcquireAsHeard(t *testing.T) {
	m := Acquire(Acquisition{
		Src: netip.AddrPortFrom(netip.MustParseAddr("10.1.0.5"), 0),
		Dst: netip.AddrPortFrom(netip.MustParseAddr("10.2.0.5"), 0),
	})
	m.Seq = 1
	wantBytes(t, m, heardAcquire)
}

func TestAddReplyAsHeard(t *testing.T) {
	id := said(klips.ProtoESP, 0x1102, netip.MustParseAddr("10.9.0.2"))
	request := AddSA(&klips.SASpec{
		ID: id, Src: netip.MustParseAddr("10.9.0.1"), Window: 64,
		Transform: klips.Transform{Auth: alg.MD5, Enc: alg.TripleDES},
		AuthKey:   unhex(t, md5Key), EncKey: unhex(t, desKey),
	})
	request.Seq, request.PID = 1, 0x220
	wantBytes(t, AddReply(request, &klips.SA{ID: id, Ref: 2}), heardAdd)
	in := AddReply(request, &klips.SA{ID: id, Ref: 2, Dir: klips.Inbound})
	if in.SA.Flags != 1 || request.SA.Flags != 0 {
		t.Errorf("flags %#x, of the request %#x, want 1, 0", in.SA.Flags, request.SA.Flags)
	}
	esn := AddReply(request, &klips.SA{ID: id, Flags: klips.FlagInFlow, ESN: true})
	if esn.SA.Flags != klips.FlagInFlow|klips.FlagESN {
		t.Errorf("flags of an SA with ESN %#x, want 0x408", esn.SA.Flags)
	}
}

func TestExpireAsHeard(t *testing.T) {
	const made = 0x28f5b0b
	sa := &klips.SA{
		ID: said(klips.ProtoTun, 0x1101, netip.MustParseAddr("10.9.0.2")), Src: netip.MustParseAddr("10.9.0.1"),
		State: klips.Mature, Used: true, Ref: 1,
	}
	sa.Life.Allocations.Count = 1
	sa.Life.Bytes = klips.Counter{Count: 312, Soft: 300}
	sa.Life.AddTime.Count, sa.Life.UseTime.Count = 7, 7
	m := Expire(sa, false, time.Unix(made+7, 0))
	m.Seq = 1
	wantBytes(t, m, heardExpire)
	if hard := Expire(sa, true, time.Unix(0, 0)); hard.LifeHard == nil || hard.LifeSoft != nil {
		t.Errorf("hard EXPIRE is %v", hard)
	}
}

func TestReplies(t *testing.T) {
	id := said(klips.ProtoESP, 0x1000, gw6)
	sa := &klips.SA{
		ID: id, Src: far6, Transform: klips.Transform{Enc: alg.AESGCM}, State: klips.Mature, Window: 1024, Ref: 9,
		NATT: klips.NATT{Type: klips.NATTNonESP, SPort: 1, DPort: 2},
		Life: klips.Life{Bytes: klips.Counter{Hard: 5}, Allocations: klips.Counter{Count: 1 << 40}},
	}
	now := time.Unix(1000, 0)
	add := AddSA(&klips.SASpec{ID: id, AuthKey: []byte{1, 2}, EncKey: []byte{3}})
	pair := GroupPair(id, said(klips.ProtoAH, 0x1001, gw6))
	flow := AddFlow(klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix("10.0.0.0/8"),
		Dst: netip.MustParsePrefix("10.0.0.0/8"), Proto: 6, DstPort: 25}, ID: id}, klips.ErouteAdd)
	plumb := must(t)(Plumb("ipsec3", true))
	spi := &Message{Header: Header{Type: TypeGetSPI, SAType: SATypeESP}, Src: &Address{Addr: far}, Dst: &Address{Addr: gw}}
	for _, tt := range []struct{ request, reply *Message }{
		{add, AddReply(add, sa)},
		{add, ErrorReply(add.Header, syscall.EEXIST)},
		{DeleteSA(id), DeleteReply(DeleteSA(id), 3)},
		{GetSA(id), GetReply(GetSA(id), sa, now)},
		{pair, GroupReply(pair)},
		{Ungroup(id), GroupReply(Ungroup(id))},
		{flow, AddFlowReply(flow)},
		{ClearFlows(), DelFlowReply(ClearFlows())},
		{DelFlow(selector("10.0.0.0/8", "10.0.0.0/8")), DelFlowReply(DelFlow(selector("10.0.0.0/8", "10.0.0.0/8")))},
		{plumb, PlumbReply(plumb, 0)},
		{plumb, PlumbReply(plumb, syscall.EEXIST)},
		{Flush(), Ack(Flush().Header)},
		{Register(SATypeESP), RegisterReply(Register(SATypeESP), []Algorithm{{ID: 2, MinBits: 128, MaxBits: 128}}, nil)},
		{spi, GetSPIReply(spi, 0x1234)},
		{NewMapping(id, netip.AddrPortFrom(far6, 1), netip.AddrPortFrom(gw6, 2)), NewMapping(id, netip.AddrPortFrom(far6, 1), netip.AddrPortFrom(gw6, 2))},
	} {
		m := tt.reply
		if err := CheckReply(m); err != nil {
			t.Errorf("CheckReply(%v) = %v", m, err)
		}
		if m.KeyAuth != nil || m.KeyEncrypt != nil {
			t.Errorf("%v carries keys", m)
		}
		b, err := m.Marshal()
		if err != nil {
			t.Errorf("%v: %v", m, err)
			continue
		}
		back, err := Parse(b)
		if err != nil {
			t.Errorf("%v: %v", m, err)
			continue
		}
		if d := cmp.Diff(m, back, byAddr); d != "" {
			t.Errorf("%v comes back otherwise:\n%s", m, d)
		}
		if m.Type != tt.request.Type || m.Seq != tt.request.Seq || m.SAType != tt.request.SAType {
			t.Errorf("%v does not answer %v", m, tt.request)
		}
	}
	if g := GetReply(GetSA(id), sa, now); g.LifeHard == nil || g.LifeSoft != nil || g.SA.Replay != 64 ||
		g.LifeCurrent.Allocations != 1<<32-1 || g.LifeCurrent.AddTime != 1000 {
		t.Errorf("GetReply = %v", g)
	}
	if err := CheckReply(AddSA(&klips.SASpec{ID: id, EncKey: []byte{1}})); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a reply to ADD with a key passes: %v", err)
	}
}
