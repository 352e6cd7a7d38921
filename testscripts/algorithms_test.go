package testscripts

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// TestAlgorithms sends packets with every algorithm from one embedded stack to another.
// Then tshark and scapy open the capture of the cable and verify the ICVs of all
// algorithms that they have.
func TestAlgorithms(t *testing.T) {
	need(t, "root", "tun")
	dir := t.TempDir()
	gw := testGateways(t)
	pcap := filepath.Join(dir, "wire.pcap")
	file, err := os.Create(pcap)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	wire, err := gw[1].Capture("eth0", file)
	if err != nil {
		t.Fatal(err)
	}
	var keys []keyLine
	packets := 0
	for n, c := range interopCases() {
		if !strings.HasPrefix(c.name, "algorithm/") {
			continue
		}
		k, err := algorithmPing(&c, gw, 0x1000+n*16)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		keys = append(keys, k...)
		packets += 2 * len(c.sizes)
	}
	wire.Stop()
	if _, err := wire.Frames(); err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "keys")
	if err := writeKeys(keyFile, keys); err != nil {
		t.Fatal(err)
	}
	t.Run("tshark", func(t *testing.T) { algorithmsByTshark(t, keys, pcap, packets) })
	t.Run("scapy", func(t *testing.T) { algorithmsByScapy(t, keyFile, pcap, packets) })
}

// algorithmPing sets up a tunnel in both directions, with SPIs from base, and pings
// through it. It returns the keys for the decoders.
func algorithmPing(c *interopCase, gw [2]*gateway, base int) (keys []keyLine, err error) {
	for _, g := range gw {
		// All cases of an algorithm use the same key, and only one SA may send with a
		// key.
		for _, applet := range []string{"eroute", "spi"} {
			if err := ipsecHere(g.rundir, applet, "--clear"); err != nil {
				return nil, err
			}
		}
	}
	for way, from := range gw {
		to := gw[1-way]
		src, dst := from.outer[c.outer], to.outer[c.outer]
		spi := func(i int) string { return fmt.Sprintf("0x%x", base+8*way+i) }
		group := []string{"spigrp", "--said"}
		for i, x := range c.xforms {
			said := x.proto + spi(i) + "@" + dst
			group = append(group, said)
			opts := strings.Fields(x.ours)
			if x.proto == "tun" {
				opts = []string{[2]string{"--ip4", "--ip6"}[c.outer], "--dst", dst}
			} else {
				keys = append(keys, keyLine{x.proto, spi(i), dst, x.enc, x.encKey, x.auth, x.authKey})
			}
			for _, g := range gw {
				if err := ipsecHere(g.rundir, append([]string{"spi", "--said", said, "--src", src}, opts...)...); err != nil {
					return nil, err
				}
			}
		}
		for _, g := range gw {
			if err := ipsecHere(g.rundir, group...); err != nil {
				return nil, err
			}
		}
		if err := ipsecHere(from.rundir, "eroute", "--add", "--src", hostPrefix(from.inner[c.inner]).String(), "--dst", hostPrefix(to.inner[c.inner]).String(), "--said", group[2]); err != nil {
			return nil, err
		}
	}
	for _, size := range c.sizes {
		p := lab.Ping{Src: netip.MustParseAddr(gw[0].inner[c.inner]), Dst: netip.MustParseAddr(gw[1].inner[c.inner]), Size: size}
		if _, err := gw[0].Ping(p); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// algorithmsByTshark: tshark opens all ESP packets whose algorithms it has, and accepts
// their ICVs.
func algorithmsByTshark(t *testing.T, keys []keyLine, pcap string, packets int) {
	need(t, "tshark")
	unknown := map[string]bool{} // SPIs
	var known []keyLine
	for _, k := range keys {
		if enc, auth := k.sharkNames(); enc == "" || auth == "" {
			unknown[k.spi] = true
			continue
		}
		known = append(known, k)
	}
	lines, err := tshark(t.TempDir(), known, pcap)
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != packets {
		t.Errorf("tshark sees %d packets, want %d", len(lines), packets)
	}
	opened := 0
	for _, line := range lines {
		f := strings.Fields(line)
		inner := strings.HasSuffix(f[0], ":ip:icmp:data") || strings.HasSuffix(f[0], ":ipv6:icmpv6:data")
		spi := ""
		for _, w := range f {
			if strings.HasPrefix(w, "0x") {
				spi = "0x" + strings.TrimLeft(w[2:], "0")
			}
		}
		switch {
		case unknown[spi]:
		case !inner:
			t.Errorf("not opened: %s", line)
		case strings.Contains(f[0], ":esp:") && !strings.Contains(line, "icv-good"):
			t.Errorf("ICV not good: %s", line)
		default:
			opened++
		}
	}
	t.Logf("tshark opened %d of %d packets; %d SAs have algorithms that it has not", opened, packets, len(unknown))
	if opened == 0 {
		t.Error("none opened")
	}
}

// algorithmsByScapy: scapy opens and verifies every packet.
func algorithmsByScapy(t *testing.T, keyFile, pcap string, packets int) {
	need(t, "scapy")
	out, err := exec.Command("/usr/bin/python3", filepath.Join("testdata", "open.py"), keyFile, pcap).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, line := range lines {
		if !strings.Contains(line, "verified") || !strings.Contains(line, "ICMP") {
			t.Errorf("not opened: %s", line)
		}
	}
	if len(lines) != packets {
		t.Errorf("scapy opened %d packets, want %d", len(lines), packets)
	}
}
