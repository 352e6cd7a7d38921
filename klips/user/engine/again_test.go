package engine_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// What another engine has handed over can be made again once, without an error. Different
// SAs, groups and eroutes are refused as always, and so is a second time.
func TestMadeAgain(t *testing.T) {
	local, peer := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0")
	c := engine.Config{Version: "test"}
	e, err := engine.New(h, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	tun := klips.SASpec{ID: klips.SAID{Dst: peer, SPI: 0x100, Proto: klips.ProtoTun}, Src: local}
	esp := klips.SASpec{
		ID: klips.SAID{Dst: peer, SPI: 0x101, Proto: klips.ProtoESP}, Src: local, Window: 64,
		Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: bytes.Repeat([]byte{1}, 16), AuthKey: bytes.Repeat([]byte{2}, 20),
	}
	ids := []klips.SAID{tun.ID, esp.ID}
	route := klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}, ID: tun.ID,
		Also: []klips.SAID{{Dst: peer, SPI: 0x103, Proto: klips.ProtoTun}, {Dst: peer, SPI: 0x102, Proto: klips.ProtoTun}}}
	ctx := t.Context()
	makeAll := func(e *engine.Engine) [4]error {
		return [4]error{e.AddSA(ctx, &tun), e.AddSA(ctx, &esp), e.Group(ctx, ids), e.SetEroute(ctx, route, klips.ErouteAdd)}
	}
	want := func(what string, got [4]error, exists bool) {
		t.Helper()
		for i, err := range got {
			if exists != errors.Is(err, syscall.EEXIST) || !exists && err != nil {
				t.Errorf("%s: number %d: %v", what, i, err)
			}
		}
	}
	want("new", makeAll(e), false)
	want("once more without a restart", makeAll(e), true)
	e = next(t, h, c, e)
	other := esp
	other.AuthKey = bytes.Repeat([]byte{3}, 20)
	if err := e.AddSA(ctx, &other); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("another key: %v", err)
	}
	other = esp
	other.Window = 32
	if err := e.AddSA(ctx, &other); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("another window: %v", err)
	}
	for _, also := range [][]klips.SAID{nil, route.Also[:1], {route.Also[1], route.Also[0]}} {
		elsewhere := route
		elsewhere.Also = also
		if err := e.SetEroute(ctx, elsewhere, klips.ErouteAdd); !errors.Is(err, syscall.EEXIST) {
			t.Errorf("an eroute to elsewhere, also %v: %v", also, err)
		}
	}
	elsewhere := route
	elsewhere.ID, elsewhere.Also = klips.Magic(klips.SPIDrop), nil
	if err := e.SetEroute(ctx, elsewhere, klips.ErouteAdd); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("an eroute to elsewhere: %v", err)
	}
	before := viewOf(t, e)
	if len(before.Eroutes) != 1 || !slices.Equal(before.Eroutes[0].Also, route.Also) {
		t.Errorf("handed over: %+v, want the further SAs %v", before.Eroutes, route.Also)
	}
	want("after a restart", makeAll(e), false)
	if after := viewOf(t, e); len(after.SAs) != len(before.SAs) || len(after.Eroutes) != len(before.Eroutes) {
		t.Errorf("it is %v, was %v", after, before)
	}
	want("the second time", makeAll(e), true)

	// An SA that was removed and made again in between is a new one.
	e = next(t, h, c, e)
	if err := errors.Join(e.DeleteEroute(ctx, route.Selector), e.DeleteSA(ctx, tun.ID)); err != nil {
		t.Fatal(err)
	}
	want("made anew", makeAll(e), false)
	want("the second time", makeAll(e), true)
}
