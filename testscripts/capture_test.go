package testscripts

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/testscripts/lab"
)

func cmdCapture(ts *testscript.TestScript, args []string) {
	w, file := worldOf(ts), ts.MkAbs(args[2])
	if old := w.captures[file]; old != nil {
		old.Stop()
	}
	f, err := os.Create(file)
	ts.Check(err)
	c, err := host(ts, args[0]).Capture(args[1], f)
	ts.Check(err)
	w.captures[file] = c
	w.closers = append(w.closers, func() { c.Stop(); f.Close() })
}

// readCapture returns the packets of a running capture so far, without housekeeping of
// the link, or the packets of a file.
func readCapture(ts *testscript.TestScript, name string) ([]lab.Frame, lab.LinkType) {
	file := ts.MkAbs(name)
	c := worldOf(ts).captures[file]
	if c == nil {
		return readPcap(ts, file)
	}
	all, err := c.Frames()
	ts.Check(err)
	var frames []lab.Frame
	for _, f := range all {
		if !lab.IsHousekeeping(c.Link, f.Data) {
			frames = append(frames, f)
		}
	}
	return frames, c.Link
}

func readPcap(ts *testscript.TestScript, file string) (frames []lab.Frame, link lab.LinkType) {
	b, err := os.ReadFile(file)
	ts.Check(err)
	if len(b) < 24 || binary.LittleEndian.Uint32(b) != 0xa1b2c3d4 {
		ts.Fatalf("%s: not a little-endian pcap file", file)
	}
	link = lab.LinkType(binary.LittleEndian.Uint32(b[20:]))
	for b = b[24:]; len(b) >= 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		if n > len(b)-16 {
			ts.Fatalf("%s: cut off", file)
		}
		frames = append(frames, lab.Frame{Data: b[16 : 16+n]})
		b = b[16+n:]
	}
	return frames, link
}

func cmdPcap(ts *testscript.TestScript, args []string) {
	file := args[len(args)-1]
	frames, link := readCapture(ts, file)
	option := ""
	if len(args) == 2 {
		option = args[0]
	}
	switch option {
	case "", "-t":
	case "-a":
		if c := worldOf(ts).captures[ts.MkAbs(file)]; c != nil {
			var err error
			frames, err = c.Frames()
			ts.Check(err)
		}
	default:
		ts.Fatalf("pcap: unknown option %q", option)
	}
	for _, f := range frames {
		if option == "-t" {
			fmt.Fprintf(ts.Stdout(), "0x%02x ", lab.TOS(link, f.Data))
		}
		fmt.Fprintln(ts.Stdout(), lab.Summary(link, f.Data))
	}
}

// A key line of the files for layers and scapy:
//
//	esp|ah SPI DST ENC ENCKEY AUTH AUTHKEY
//
// with "-" for a missing algorithm or key.
type keyLine struct{ proto, spi, dst, enc, encKey, auth, authKey string }

func readKeys(ts *testscript.TestScript, name string) (keys []keyLine) {
	for _, line := range strings.Split(ts.ReadFile(name), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != 7 {
			ts.Fatalf("%s: want PROTO SPI DST ENC ENCKEY AUTH AUTHKEY: %s", name, line)
		}
		keys = append(keys, keyLine{f[0], f[1], f[2], f[3], f[4], f[5], f[6]})
	}
	return keys
}

// sharkNames returns Wireshark's names of the algorithms of a line; one is empty if Wireshark
// has none.
func (k keyLine) sharkNames() (enc, auth string) {
	enc, auth = "NULL", "NULL"
	if k.enc != "-" {
		enc = ""
		for _, e := range alg.Encs() {
			if i, _ := e.Info(); slices.Contains(i.Names, k.enc) {
				enc = i.Wireshark
			}
		}
	}
	if k.auth != "-" {
		a, _ := alg.AuthNamed(k.auth)
		i, _ := a.Info()
		auth = i.Wireshark
	}
	return enc, auth
}

// cmdLayers prints the protocols of each packet as tshark reports them after opening
// the ESP layers, with the addresses, the SPIs, and "icv-good" or "icv-bad" for each
// ICV that it has checked.
func cmdLayers(ts *testscript.TestScript, args []string) {
	lines, err := tshark(worldOf(ts).work, readKeys(ts, args[0]), ts.MkAbs(args[1]))
	ts.Check(err)
	for _, line := range lines {
		fmt.Fprintln(ts.Stdout(), line)
	}
}

func tshark(home string, keys []keyLine, pcap string) ([]string, error) {
	opts := []string{"-n", "-r", pcap, "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"}
	for _, k := range keys {
		if k.proto != "esp" {
			continue // it has no AH keys
		}
		enc, auth := k.sharkNames()
		if enc == "" || auth == "" {
			return nil, fmt.Errorf("tshark has no %s or no %s", k.enc, k.auth)
		}
		family := "IPv4"
		if strings.Contains(k.dst, ":") {
			family = "IPv6"
		}
		key := func(s string) string { return strings.ReplaceAll(strings.TrimPrefix(s, "-"), "_", "") }
		opts = append(opts, "-o", fmt.Sprintf("uat:esp_sa:%q,%q,%q,%q,%q,%q,%q,%q", family, "*", k.dst, k.spi, enc, key(k.encKey), auth, key(k.authKey)))
	}
	opts = append(opts, "-Y", "not arp and not icmpv6.type >= 130", "-T", "fields", "-E", "separator=|", "-E", "aggregator=,",
		"-e", "frame.protocols", "-e", "ip.src", "-e", "ip.dst", "-e", "ipv6.src", "-e", "ipv6.dst", "-e", "esp.spi",
		"-e", "esp.icv_good", "-e", "esp.icv_bad")
	cmd := exec.Command("tshark", opts...)
	cmd.Env = append(os.Environ(), "HOME="+home)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("tshark: %w: %s", err, stderr.String())
	}
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		f := strings.Split(line, "|")
		words := f[:1]
		for _, w := range f[1:6] {
			if w != "" {
				words = append(words, w)
			}
		}
		if strings.Contains(f[6], "1") {
			words = append(words, "icv-good")
		}
		if strings.Contains(f[7], "1") {
			words = append(words, "icv-bad")
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines, nil
}

func writeKeys(file string, keys []keyLine) error {
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintln(&b, k.proto, k.spi, k.dst, k.enc, k.encKey, k.auth, k.authKey)
	}
	return os.WriteFile(file, []byte(b.String()), 0o600)
}

// cmdScapy opens each packet layer by layer with scapy and prints the layers.
func cmdScapy(ts *testscript.TestScript, args []string) {
	readKeys(ts, args[0]) // for its complaints
	script, err := filepath.Abs(filepath.Join("testdata", "open.py"))
	ts.Check(err)
	cmd := exec.Command("/usr/bin/python3", script, ts.MkAbs(args[0]), ts.MkAbs(args[1]))
	cmd.Env = append(os.Environ(), "HOME="+worldOf(ts).work)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	ts.Stdout().Write(out)
	if err != nil {
		ts.Fatalf("scapy: %v\n%s", err, stderr.String())
	}
}
