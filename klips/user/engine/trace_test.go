package engine_test

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
)

// A debugLog receives the lines of the debug masks.
type debugLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *debugLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines returns the lines since the last call, without the time.
func (l *debugLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.TrimSpace(l.b.String())
	l.b.Reset()
	if text == "" {
		return nil
	}
	return strings.Split(regexp.MustCompile(`(?m)^time=\S+ level=DEBUG `).ReplaceAllString(text, ""), "\n")
}

// traced returns a pair whose first stack has a debug log.
func traced(t *testing.T) (*pair, *debugLog) {
	l := &debugLog{}
	h := slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})
	return pairOn(t, new(klipstest.Network), new(klipstest.Network), slog.New(h)), l
}

// debug switches these areas on, and all others off.
func (p *pair) debug(areas ...klips.DebugArea) {
	p.t.Helper()
	p.must(p.a.SetDebug(p.t.Context(), klips.DebugChange{}))
	c := klips.DebugChange{Set: true}
	for _, a := range areas {
		c.Masks[a] = ^uint32(0)
	}
	p.must(p.a.SetDebug(p.t.Context(), c))
}

// Each area has a line for each of its decisions, and no other area has lines for them.
func TestDebugAreas(t *testing.T) {
	p, log := traced(t)
	key := testKey(20)
	id := klips.SAID{Dst: gwB4, SPI: 0x1001, Proto: klips.ProtoESP}
	work := func() {
		t.Helper()
		p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: id, Src: gwA4, Transform: gcm.tr, EncKey: key}))
		p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", id, klips.ErouteAdd)
		p.out(ip(inA4, inB4, 253, 40))
		p.out(ip(inA4, inA4, 253, 40))
		p.ha.Arrive(ip(gwB4, gwA4, 50, 40))
		p.ha.Settle()
		p.must(p.a.DeleteEroute(t.Context(), sel("10.1.0.0/16", "10.2.0.0/16")))
		p.must(p.a.DeleteSA(t.Context(), id))
		p.must(p.a.Attach(t.Context(), "ipsec1", "eth0"))
		p.must(p.a.Detach(t.Context(), "ipsec1"))
	}
	for _, c := range []struct {
		area klips.DebugArea
		want []string
	}{
		{klips.DebugSPI, []string{
			`msg="add SA" area=spi said=esp0x1001@192.0.2.2`,
			`msg="delete SA" area=spi said=esp0x1001@192.0.2.2`,
		}},
		{klips.DebugEroute, []string{
			`msg="add eroute" area=eroute eroute="10.1.0.0/16 -> 10.2.0.0/16"`,
			`msg="delete eroute" area=eroute eroute="10.1.0.0/16 -> 10.2.0.0/16"`,
		}},
		{klips.DebugTunnel, []string{
			`msg="sent protected" area=tunnel device=ipsec0 src=10.1.0.5 dst=10.2.0.5 proto=253 bytes=60 length=96`,
			`msg=dropped area=tunnel device=ipsec0 src=10.1.0.5 dst=10.1.0.5 proto=253 bytes=60 why=no-eroute`,
			`msg=attach area=tunnel device="ipsec1 to eth0"`,
			`msg=detach area=tunnel device=ipsec1`,
		}},
		{klips.DebugRadij, []string{
			`msg="eroute found" area=radij src=10.1.0.5:0 dst=10.2.0.5:0 proto=253 eroute="10.1.0.0/16 -> 10.2.0.0/16" said=esp0x1001@192.0.2.2`,
			`msg="eroute found" area=radij src=10.1.0.5:0 dst=10.2.0.5:0 proto=50 eroute="10.1.0.0/16 -> 10.2.0.0/16" said=esp0x1001@192.0.2.2`,
			`msg="no eroute" area=radij src=10.1.0.5:0 dst=10.1.0.5:0 proto=253`,
		}},
		{klips.DebugXform, []string{
			`msg="transforms in order" area=xform src=10.1.0.5 dst=10.2.0.5 proto=253 bytes=60 saids=esp0x1001@192.0.2.2`,
		}},
		{klips.DebugESP, []string{`msg=out area=esp said=esp0x1001@192.0.2.2 seq=1`}},
		{klips.DebugRcv, []string{
			`msg=dropped area=rcv src=192.0.2.2 dst=192.0.2.1 proto=50 bytes=60 why=no-sa`,
		}},
		{klips.DebugAH, nil}, {klips.DebugIPComp, nil}, {klips.DebugNetlink, nil}, {klips.DebugVerbose, nil},
	} {
		p.debug(c.area)
		work()
		got := log.lines()
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("area %d:\n got %s\nwant %s", c.area, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}
	p.debug()
	work()
	if got := log.lines(); got != nil {
		t.Errorf("with everything off there are lines: %q", got)
	}
}

// No line contains a key, whatever is switched on and whatever is refused.
func TestDebugLogHasNoKeys(t *testing.T) {
	p, log := traced(t)
	p.debug(klips.DebugTunnel, klips.DebugXform, klips.DebugEroute, klips.DebugSPI, klips.DebugRadij,
		klips.DebugESP, klips.DebugAH, klips.DebugRcv, klips.DebugPFKey, klips.DebugIPComp, klips.DebugVerbose)
	spec := klips.SASpec{ID: klips.SAID{Dst: gwB4, SPI: 0x1001, Proto: klips.ProtoESP}, Src: gwA4, Transform: aes.tr, EncKey: testKey(16), AuthKey: testKey(20)}
	p.must(p.a.AddSA(t.Context(), &spec))
	_ = p.a.AddSA(t.Context(), &spec)
	spec.EncKey = testKey(15)
	_ = p.a.UpdateSA(t.Context(), &spec)
	spec.EncKey = testKey(16)
	p.must(p.a.UpdateSA(t.Context(), &spec))
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", spec.ID, klips.ErouteAdd)
	p.out(ip(inA4, inB4, 253, 40))
	text := strings.Join(log.lines(), "\n")
	if !strings.Contains(text, "refused=") || !strings.Contains(text, "sent protected") {
		t.Errorf("the log does not have what was done:\n%s", text)
	}
	for _, k := range [][]byte{testKey(4), testKey(16)[12:]} {
		if strings.Contains(text, string(k)) || strings.Contains(text, hex.EncodeToString(k)) {
			t.Errorf("the log has a part of a key:\n%s", text)
		}
	}
}

// Many packets do not cause many lines.
func TestDebugLogIsLimited(t *testing.T) {
	p, log := traced(t)
	p.debug(klips.DebugTunnel)
	for range 2 {
		for range 500 {
			p.ha.Link("ipsec0").Send(ip(inA4, inB4, 253, 40))
		}
		p.ha.Settle()
		l := log.lines()
		if len(l) != 100 || !strings.Contains(l[99], "left out") {
			t.Errorf("500 packets make %d lines, the last is %q", len(l), l[len(l)-1])
		}
		p.clock.Advance(time.Second)
	}
}
