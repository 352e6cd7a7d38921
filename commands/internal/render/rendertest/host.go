// Package rendertest has a host in memory for tests of package render and of the applets that
// use it.
package rendertest

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/plan"
	"github.com/klips-go/ipsec/klips/serial"
)

// A Host is a stack in memory that remembers the keys of its SAs.
type Host struct {
	klips.Stack
	Keys map[klips.SAID]klips.Keys
	// KeysErr is the error of ReadKeys, if it is set.
	KeysErr error
}

var _ klips.KeyReader = (*Host)(nil)

// NewHost returns a host with addresses.
func NewHost(addrs ...string) *Host {
	local := func(a netip.Addr) bool { return slices.Contains(addrs, a.String()) }
	return &Host{Stack: serial.New(plan.NewModel(local, nil)), Keys: map[klips.SAID]klips.Keys{}}
}

// Apply carries out changes.
func (h *Host) Apply(ctx context.Context, changes ...klips.Change) (klips.Result, error) {
	for _, c := range changes {
		if a, ok := c.(klips.AddSA); ok {
			h.Keys[a.ID] = klips.Keys{EncKey: bytes.Clone(a.EncKey), AuthKey: bytes.Clone(a.AuthKey)}
		}
	}
	return h.Stack.Apply(ctx, changes...)
}

// ReadKeys returns copies of the keys of an SA.
func (h *Host) ReadKeys(_ context.Context, id klips.SAID) (klips.Keys, error) {
	k := h.Keys[id]
	return klips.Keys{EncKey: bytes.Clone(k.EncKey), AuthKey: bytes.Clone(k.AuthKey)}, h.KeysErr
}

// World returns the environment of commands on the host.
func (h *Host) World() clitest.World {
	return clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return h }}
}

// Close keeps the stack for the next command.
func (*Host) Close() error { return nil }

// Do carries out a file of commands, which may have comments.
func (h *Host) Do(t testing.TB, commands string) {
	t.Helper()
	apps := map[string]func() *cli.App{"spi": spi.App, "spigrp": spigrp.App, "eroute": eroute.App, "tncfg": tncfg.App}
	for line := range strings.Lines(commands) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		app := apps[words[0]]
		if app == nil {
			t.Fatalf("%s: no such command", line)
		}
		if r := clitest.Run(app(), h.World(), words[1:]...); r.Status != 0 {
			t.Fatalf("%s: %s", line, r.Err)
		}
	}
}

// Config returns what the host has, with the keys.
func (h *Host) Config(t testing.TB) *render.Config {
	t.Helper()
	tables, err := h.Snapshot(context.Background(), klips.Want{SAs: true, Eroutes: true, Devices: true})
	if err != nil {
		t.Fatal(err)
	}
	c := render.NewConfig(tables)
	for _, sa := range c.SAs() {
		k := h.Keys[sa.ID]
		sa.EncKey, sa.AuthKey = bytes.Clone(k.EncKey), bytes.Clone(k.AuthKey)
		if 8*len(sa.EncKey) != sa.EncKeyBits || 8*len(sa.AuthKey) != sa.AuthKeyBits {
			t.Fatalf("%s: keys of %d and %d bits are listed as %d and %d", sa.ID, 8*len(sa.EncKey), 8*len(sa.AuthKey), sa.EncKeyBits, sa.AuthKeyBits)
		}
	}
	return c
}
