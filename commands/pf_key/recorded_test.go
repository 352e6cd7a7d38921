package pf_key_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/daemon"
)

// TestRecordedExchanges replays all recordings with an open PF_KEY socket, over the
// sockets of a daemon.
func TestRecordedExchanges(t *testing.T) {
	n := 0
	for x := range recorded.Exchanges(t) {
		if x.Listens() {
			n++
			t.Run(x.ID, func(t *testing.T) {
				t.Parallel()
				replay(t, x)
			})
		}
	}
	if n != 18 {
		t.Errorf("%d exchanges with an open socket, want 18", n)
	}
}

func replay(t *testing.T, r *recorded.Exchange) {
	b := newBench(t)
	b.host.AddDevice("eth0", 1500)
	for _, a := range []string{r.Setup.Eth0, r.Setup.Lan0, r.Setup.Ipsec0} {
		b.host.AddAddr(netip.MustParsePrefix(a).Addr())
	}
	// In these two the stack differs from the original on purpose.
	if err := b.ask.Set(t.Context(), map[string]int{"mtu_rule": 1, "expire_unused": 0}); err != nil {
		t.Fatal(err)
	}
	b.run([]string{"tncfg", "--attach", "--virtual", "ipsec0", "--physical", "eth0"})
	for _, c := range r.Commands {
		b.run(c.Cmd)
	}
	var got, want []*pfkey.Message
	for i, e := range r.Events {
		switch {
		case e.Listen != nil:
			b.listen(*e.Listen)
		case e.Sleep > 0:
			b.clock.Advance(time.Duration(e.Sleep * float64(time.Second)))
		case e.Cmd != nil:
			b.run(e.Cmd)
		case r.Direction == "in":
			for _, p := range e.Wire {
				b.host.Arrive(p)
			}
		default:
			for _, p := range e.Clear {
				b.host.Link("ipsec0").Send(p)
				b.host.Settle()
			}
		}
		b.host.Settle()
		heard := b.heard()
		var original []*pfkey.Message
		for _, raw := range e.PFKey {
			m, err := pfkey.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			original = append(original, m)
		}
		if r.Quirk {
			// The original keeps reporting an SA that has already expired.
			got, want = append(got, heard...), append(want, original...)
			continue
		}
		compare(t, i, original, heard)
	}
	if r.Quirk {
		compare(t, -1, once(want), perHosts(got))
	}
}

// perHosts leaves out further ACQUIREs for the same two hosts: the original's hold
// takes packets of all protocols, even if the trap was for one protocol.
func perHosts(l []*pfkey.Message) (out []*pfkey.Message) {
	seen := map[[2]netip.Addr]uint8{}
	for _, m := range l {
		if m.Type == pfkey.TypeAcquire {
			hosts := [2]netip.Addr{m.Src.Addr, m.Dst.Addr}
			if proto, ok := seen[hosts]; ok && proto != m.Src.Proto {
				continue
			}
			seen[hosts] = m.Src.Proto
		}
		out = append(out, m)
	}
	return out
}

// once leaves out further EXPIREs of the same SA.
func once(l []*pfkey.Message) (out []*pfkey.Message) {
	seen := map[klips.SPI]bool{}
	for _, m := range l {
		if m.Type == pfkey.TypeExpire {
			if seen[m.SA.SPI] {
				continue
			}
			seen[m.SA.SPI] = true
		}
		out = append(out, m)
	}
	return out
}

// compare compares the received messages with the recorded ones of KLIPS, without the
// parts that differ between runs.
func compare(t *testing.T, event int, want, got []*pfkey.Message) {
	t.Helper()
	var w, g []string
	for _, m := range want {
		w = append(w, plain(m))
	}
	for _, m := range got {
		g = append(g, plain(m))
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Errorf("event %d (-recorded +heard):\n%s", event, d)
	}
}

func plain(m *pfkey.Message) string {
	if m.PID != 0 {
		m.Seq, m.PID = 0, 1
	}
	if l := m.LifeCurrent; l != nil {
		l.AddTime = 0
		// In this test the clock of an unused SA does not run.
		l.UseTime = 0
	}
	m.SupportedAuth, m.SupportedEnc = common(m.SupportedAuth), common(m.SupportedEnc)
	return m.String() + proposals(m)
}

// common returns the algorithms that both KLIPS and the stack have, each once and with
// the values of KLIPS' transforms: its lists also have older rows, which the kernel
// does not use.
func common(s *pfkey.Supported) *pfkey.Supported {
	if s == nil {
		return nil
	}
	c := new(pfkey.Supported)
	seen := map[uint8]bool{}
	for _, a := range s.Algs {
		if _, known := alg.Enc(a.ID).Info(); a.IV != 0 && !known {
			continue
		}
		if _, known := alg.Auth(a.ID).Info(); a.IV == 0 && !known {
			continue
		}
		// Ciphers that only the embedded stack has.
		switch alg.Enc(a.ID) {
		case alg.AESGCM, alg.ChaCha20Poly1305:
			continue
		}
		if !seen[a.ID] {
			seen[a.ID] = true
			c.Algs = append(c.Algs, a)
		}
	}
	return c
}

// proposals returns all offers of an ACQUIRE, as text.
func proposals(m *pfkey.Message) string {
	if m.Proposal == nil {
		return ""
	}
	b, _ := json.Marshal(m.Proposal)
	return string(b)
}

// A bench is a daemon on a host in memory, with a listener.
type bench struct {
	t      *testing.T
	rundir string
	host   *klipstest.Host
	clock  *clocktest.Clock // of the daemon
	ask    klipstest.Client // sends the messages that mark the end
	news   chan []byte
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, rundir: t.TempDir(), host: klipstest.NewHost(new(klipstest.Network), nil), clock: clocktest.New()}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- daemon.Run(ctx, daemon.Config{
			Rundir: b.rundir, Version: "test", Host: b.host, Clock: b.clock,
			Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	<-ready
	b.ask = b.dial()
	return b
}

func (b *bench) dial() klipstest.Client {
	b.t.Helper()
	c, err := klipstest.Dial(user.SocketPath(b.rundir))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

var apps = map[string]func() *cli.App{
	"spi": spi.App, "spigrp": spigrp.App, "eroute": eroute.App, "tncfg": tncfg.App,
}

// run runs an applet, which must succeed.
func (b *bench) run(cmd []string) {
	b.t.Helper()
	if cmd[0] == "ip" {
		return // the host of these tests needs no routes
	}
	app := apps[cmd[0]]
	if app == nil {
		b.t.Fatalf("no applet %q", cmd)
	}
	r := clitest.Run(app(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return b.dial() }}, cmd[1:]...)
	if r.Status != 0 {
		b.t.Fatalf("%q: %s", cmd, r.Err)
	}
}

// listen opens another socket, which receives all messages from now on.
func (b *bench) listen(numbers []int) {
	b.t.Helper()
	var want klips.EventWant
	for _, n := range numbers {
		want.Register = append(want.Register, uint8(n))
	}
	c := b.dial()
	if _, err := c.Status(b.t.Context()); err != nil { // wait until the daemon has registered it
		b.t.Fatal(err)
	}
	messages, err := c.Events(context.Background(), want)
	if err != nil {
		b.t.Fatal(err)
	}
	b.news = make(chan []byte, 1024)
	go func() {
		for m, err := range messages {
			if err != nil {
				close(b.news)
				return
			}
			b.news <- m.PFKey
		}
	}()
}

// heard returns the messages received so far.
func (b *bench) heard() (l []*pfkey.Message) {
	b.t.Helper()
	if b.news == nil {
		return nil
	}
	// All sockets receive an error message: it marks the end of the earlier ones.
	nothing := klips.SAID{Dst: netip.MustParseAddr("203.0.113.9"), SPI: 0x9999, Proto: klips.ProtoAH}
	if err := b.ask.Ungroup(b.t.Context(), nothing); err == nil {
		b.t.Fatal("ungrouping nothing is no error")
	}
	for raw := range b.news {
		m, err := pfkey.Parse(raw)
		if err != nil {
			b.t.Fatal(err)
		}
		if m.Type == pfkey.TypeGroupSA && m.Errno != 0 {
			return l
		}
		l = append(l, m)
	}
	b.t.Fatal("the daemon has gone")
	return nil
}
