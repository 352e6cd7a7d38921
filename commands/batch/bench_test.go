package batch_test

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"context"

	"github.com/klips-go/ipsec/commands/batch"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// tunnels returns the commands for n tunnels: two SAs, a group and an eroute each, the
// SAs first.
func tunnels(n int) string {
	var b strings.Builder
	for i := range n {
		spi := 0x1000 + i
		fmt.Fprintf(&b, "spi --said tun0x%x@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2\n", spi)
		fmt.Fprintf(&b, "spi --said esp0x%x@192.0.2.2 --src 192.0.2.1 --esp aes128-sha1 --enckey 0x%032x --authkey 0x%040x --replay_window 64\n", spi, spi, spi)
	}
	for i := range n {
		fmt.Fprintf(&b, "spigrp --said tun0x%x@192.0.2.2 esp0x%x@192.0.2.2\n", 0x1000+i, 0x1000+i)
	}
	for i := range n {
		fmt.Fprintf(&b, "eroute --add --src 10.0.0.0/16 --dst 10.%d.%d.0/24 --said tun0x%x@192.0.2.2\n", 1+i>>8, i&255, 0x1000+i)
	}
	return b.String()
}

// runOnEngine runs a file on an embedded stack in memory.
func runOnEngine(t testing.TB, file string) *engine.Engine {
	h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{netip.MustParseAddr("192.0.2.1")}, "eth0")
	e, err := engine.New(h, engine.Config{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	env := &cli.Env{Name: "ipsec batch", Out: io.Discard, Err: os.Stderr,
		Getenv: func(string) string { return "" },
		Stack:  func(context.Context) (klips.Stack, error) { return serial.New(open{e}), nil }}
	if err := batch.App(batch.Entries).Run(t.Context(), env, []string{file}); err != nil {
		t.Fatal(err)
	}
	return e
}

// An open is an engine that stays open when its connection is closed.
type open struct{ *engine.Engine }

func (open) Close() error { return nil }

func tunnelFile(t testing.TB, n int) string {
	file := filepath.Join(t.TempDir(), "tunnels")
	if err := os.WriteFile(file, []byte(tunnels(n)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestEngine checks the tables that a file makes.
func TestEngine(t *testing.T) {
	const n = 300
	e := runOnEngine(t, tunnelFile(t, n))
	defer e.Close()
	sas, err := e.SAs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	routes, err := e.Eroutes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	grouped := 0
	for _, s := range sas {
		if s.ID.Proto == klips.ProtoTun && len(s.Next) == 1 && s.Next[0].SPI == s.ID.SPI {
			grouped++
		}
	}
	if len(sas) != 2*n || grouped != n || len(routes) != n {
		t.Errorf("%d SAs, %d groups, %d eroutes; want %d, %d, %d", len(sas), grouped, len(routes), 2*n, n, n)
	}
}

// BenchmarkEngine runs a file of 20 000 commands: 10 000 SAs, 5 000 groups and 5 000
// eroutes.
func BenchmarkEngine(b *testing.B) {
	const n = 5000
	file := tunnelFile(b, n)
	b.ReportAllocs()
	for b.Loop() {
		e := runOnEngine(b, file)
		b.StopTimer()
		e.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)*4*n/b.Elapsed().Seconds(), "lines/s")
}
