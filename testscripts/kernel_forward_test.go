package testscripts

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// TestInteropForward: two gateways, both on the kernel's own stack, carry the packets
// of the hosts behind them. The commands are those of the classic manual page.
func TestInteropForward(t *testing.T) {
	need(t, "root", "xfrm")
	var hosts [4]*lab.Host // a client, its gateway, the other gateway, its client
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"west", "gw1", "gw2", "east"} {
		h, err := lab.NewHost(name)
		check(err)
		t.Cleanup(func() { h.Close() })
		hosts[i] = h
	}
	check(lab.Cable(hosts[0], "eth0", hosts[1], "eth1"))
	check(lab.Cable(hosts[1], "eth0", hosts[2], "eth0"))
	check(lab.Cable(hosts[2], "eth1", hosts[3], "eth0"))
	gateways := [2]string{"192.0.2.1", "192.0.2.2"}
	clients := [2]*lab.Host{hosts[0], hosts[3]}
	for i, gw := range hosts[1:3] {
		n := i + 1
		check(gw.AddAddr("eth0", netip.MustParsePrefix(gateways[i]+"/24")))
		check(gw.AddAddr("eth1", netip.MustParsePrefix(fmt.Sprintf("10.%d.0.1/24", n))))
		check(clients[i].AddAddr("eth0", netip.MustParsePrefix(fmt.Sprintf("10.%d.0.2/24", n))))
		check(clients[i].AddRoute(lab.Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Via: netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", n))}))
		check(gw.Sysctl("net.ipv4.ip_forward", "1"))
		ipsec := func(args ...string) {
			t.Helper()
			check(gw.Do(func() error {
				return ipsecHere(os.Getenv("IPSEC_RUNDIR"), append([]string{"--stack", "xfrm"}, args...)...)
			}))
		}
		ipsec("tncfg", "--attach", "--virtual", "ipsec0", "--physical", "eth0")
		check(gw.Up("ipsec0"))
		check(gw.AddRoute(lab.Route{Dst: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", 3-n)), Dev: "ipsec0"}))
		for way, dst := range gateways {
			at := "@" + dst
			src := gateways[1-way]
			tun, esp, ah := "tun0x113"+at, "esp0x115"+at, "ah0x116"+at
			ipsec("spi", "--said", tun, "--ip4", "--src", src, "--dst", dst)
			ipsec("spi", "--said", esp, "--src", src, "--esp", "3des-md5-96", "--enckey", testKey(192), "--authkey", testKey(128))
			ipsec("spi", "--said", ah, "--src", src, "--ah", "hmac-md5-96", "--authkey", testKey(128))
			if way == i { // towards this gateway
				ipsec("eroute", "--addin", "--eraf", "inet", "--src", fmt.Sprintf("10.%d.0.0/24", 3-n), "--dst", fmt.Sprintf("10.%d.0.0/24", n), "--said", tun)
			}
			ipsec("spigrp", "--said", tun, esp, ah)
			if way != i {
				ipsec("eroute", "--add", "--eraf", "inet", "--src", fmt.Sprintf("10.%d.0.0/24", n), "--dst", fmt.Sprintf("10.%d.0.0/24", 3-n), "--said", tun)
			}
		}
	}
	// A capture shows a received packet again after the kernel has opened it. A sent
	// packet appears only in the form on the wire.
	var wires [2]*lab.Capture
	for i, gw := range hosts[1:3] {
		w, err := gw.Capture("eth0", nil)
		check(err)
		defer w.Stop()
		wires[i] = w
	}
	for _, size := range []int{64, 1300} {
		p := lab.Ping{Src: netip.MustParseAddr("10.1.0.2"), Dst: netip.MustParseAddr("10.2.0.2"), Size: size}
		if _, err := clients[0].Ping(p); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	for i, w := range wires {
		frames, _ := w.Frames()
		protected := 0
		opened := fmt.Sprintf("10.%d.0.2 > ", 2-i) // from the client of the other gateway
		for _, f := range frames {
			line := lab.Summary(w.Link, f.Data)
			if lab.IsHousekeeping(w.Link, f.Data) || strings.HasPrefix(line, opened) {
				continue
			}
			var names []string
			for _, l := range lab.Layers(w.Link, f.Data) {
				names = append(names, l.Name)
			}
			if !slices.Equal(names, []string{"ip", "ah", "esp"}) {
				t.Errorf("on the wire of %s: %s", hosts[1+i].Name, line)
			}
			protected++
		}
		if protected != 4 {
			t.Errorf("%d packets on the wire of %s, want 4", protected, hosts[1+i].Name)
		}
	}
}
