package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// A show is one run of the demonstration.
type show struct {
	ctx   context.Context
	ipsec string // absolute path of the program
	out   io.Writer

	dir     string // keys and the hosts file
	hosts   []*gateway
	espKeys map[uint32][]byte // by SPI
}

// A gateway is one of the two hosts.
type gateway struct {
	*lab.Host
	wire, inner, net string // addresses: on the cable, behind the gateway, its network
	spis             string // the first digits of the SPIs of SAs towards it
	started          bool
}

const pings = 3

func (s *show) play() error {
	if err := s.build(); err != nil {
		return err
	}
	gw1, gw2 := s.hosts[0], s.hosts[1]
	s.say(`
Two gateways on one cable, a network behind each:

    10.1.0.1 (gw1) 192.0.2.1 ---------------- 192.0.2.2 (gw2) 10.2.0.1

What goes from one network to the other is to be put into an IP packet for the
other gateway (tun), encrypted and authenticated (esp, AES-GCM), and authenticated
once more with its outer addresses (ah): three security associations in each
direction, grouped.`)
	s.title("Keys, the same on both gateways, others for each direction")
	for _, to := range []*gateway{gw2, gw1} {
		// 256 bits of key and 32 of salt (RFC 4106, section 8.1).
		key, err := s.makeKey(gw1, "esp-to-"+to.Name+".key", "288")
		if err != nil {
			return err
		}
		spi, err := strconv.ParseUint(to.spis+"15", 0, 32)
		if err != nil {
			return err
		}
		s.espKeys[uint32(spi)] = key
		if _, err := s.makeKey(gw1, "ah-to-"+to.Name+".key", "256"); err != nil {
			return err
		}
	}
	for _, g := range s.hosts {
		peer := gw2
		if g == gw2 {
			peer = gw1
		}
		if err := s.configure(g, peer); err != nil {
			return err
		}
	}
	if err := s.ping(gw1, gw2); err != nil {
		return err
	}
	return s.short(gw1, gw2)
}

// build creates the hosts, which know each other's names, and the cable.
func (s *show) build() (err error) {
	if s.dir, err = os.MkdirTemp("", "ipsec-demo"); err != nil {
		return err
	}
	names := filepath.Join(s.dir, "hosts")
	if err := os.WriteFile(names, []byte("127.0.0.1 localhost\n192.0.2.1 gw1\n192.0.2.2 gw2\n"), 0o644); err != nil {
		return err
	}
	for i := 1; i <= 2; i++ {
		// Each host has its own /run, like a machine.
		h, err := lab.NewHost(fmt.Sprintf("gw%d", i), lab.Bind(names, "/etc/hosts"), lab.Tmpfs("/run"))
		if err != nil {
			return err
		}
		s.hosts = append(s.hosts, &gateway{
			Host: h, wire: fmt.Sprintf("192.0.2.%d", i), inner: fmt.Sprintf("10.%d.0.1", i), net: fmt.Sprintf("10.%d.0.0/24", i),
			spis: fmt.Sprintf("0x%d", 3-i),
		})
	}
	if err := lab.Cable(s.hosts[0].Host, "eth0", s.hosts[1].Host, "eth0"); err != nil {
		return err
	}
	for _, g := range s.hosts {
		if err := errors.Join(g.AddAddr("eth0", netip.MustParsePrefix(g.wire+"/24")), g.AddAddr("lo", netip.MustParsePrefix(g.inner+"/32"))); err != nil {
			return err
		}
	}
	return nil
}

// configure runs the commands for a gateway: its half of the tunnel, in both
// directions.
func (s *show) configure(g, peer *gateway) error {
	s.title("Host " + g.Name)
	g.started = true // stop it even if the start fails
	if err := s.typed(g, "ipsec setup start"); err != nil {
		return err
	}
	for _, way := range [2][2]*gateway{{g, peer}, {peer, g}} {
		from, to := way[0], way[1]
		for _, line := range []string{
			"ipsec spi --said tunN13@TO --ip4 --src FROM --dst TO",
			"ipsec spi --said espN15@TO --src FROM --esp aes256-gcm --enckey @esp-to-TO.key --replay_window 64",
			"ipsec spi --said ahN16@TO --src FROM --ah hmac-sha2-256-128 --authkey @ah-to-TO.key --replay_window 64",
			"ipsec spigrp inet TO N13 tun inet TO N15 esp inet TO N16 ah",
		} {
			if err := s.typed(g, strings.NewReplacer("TO", to.Name, "FROM", from.Name, "N", to.spis).Replace(line)); err != nil {
				return err
			}
		}
	}
	for _, line := range []string{
		fmt.Sprintf("ipsec eroute --add --eraf inet --src %s --dst %s --said %s@%s", g.net, peer.net, "tun"+peer.spis+"13", peer.Name),
		fmt.Sprintf("ipsec eroute --addin --eraf inet --src %s --dst %s --said %s@%s", peer.net, g.net, "tun"+g.spis+"13", g.Name),
		"ipsec tncfg --attach --virtual ipsec0 --physical eth0",
	} {
		if err := s.typed(g, line); err != nil {
			return err
		}
	}
	// The same as ip(8) does on a machine that has it.
	s.command(g, fmt.Sprintf("ip link set ipsec0 up; ip route add %s dev ipsec0 src %s", peer.net, g.inner))
	if err := g.Up("ipsec0"); err != nil {
		return err
	}
	return g.AddRoute(lab.Route{Dst: netip.MustParsePrefix(peer.net), Dev: "ipsec0", Src: netip.MustParseAddr(g.inner)})
}

// ping sends the packets and shows their way.
func (s *show) ping(from, to *gateway) error {
	wire, err := to.Capture("eth0", nil)
	if err != nil {
		return err
	}
	defer wire.Stop()
	clear, err := from.Capture("ipsec0", nil)
	if err != nil {
		return err
	}
	defer clear.Stop()

	s.title("Packets")
	s.command(from, fmt.Sprintf("ping -c %d %s", pings, to.inner))
	replies, pingErr := from.Ping(lab.Ping{Dst: netip.MustParseAddr(to.inner), Count: pings})
	for _, r := range replies {
		fmt.Fprintf(s.out, "%d bytes from %s: seq=%d ttl=%d time=%.2f ms\n", r.Bytes, to.inner, r.Seq, r.TTL, float64(r.RTT.Microseconds())/1000)
	}
	if pingErr != nil {
		fmt.Fprintln(s.out, pingErr)
	}
	s.say("\nOn ipsec0 of " + from.Name + ", before protection and after its removal:")
	frames, _ := clear.Frames()
	for _, f := range head(frames, 2) {
		fmt.Fprintln(s.out, "   ", lab.Summary(clear.Link, f.Data))
	}
	s.say("\nOn the cable, as anybody sees it, and opened with the keys:")
	var bad, inside int
	frames, _ = wire.Frames()
	protected := 0
	for _, f := range frames {
		if lab.IsHousekeeping(wire.Link, f.Data) {
			continue
		}
		protected++
		text := "not AH around ESP: CLEAR"
		opened, err := s.open(wire.Link, f.Data)
		switch {
		case err == nil:
			inside++
			text = "holds " + opened
		case errors.Is(err, errClear):
			bad++
		default:
			text = "does not open: " + err.Error()
		}
		if protected <= 2 || err != nil {
			fmt.Fprintf(s.out, "    %s\n        %s\n", lab.Summary(wire.Link, f.Data), text)
		}
	}
	if protected > 2 {
		fmt.Fprintf(s.out, "    ... %d packets in all\n", protected)
	}
	s.say("")
	if err := s.typed(from, "ipsec look"); err != nil {
		return err
	}
	s.title("Verdict")
	switch {
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	case bad > 0:
		return fmt.Errorf("%d packets on the cable were not protected", bad)
	case pingErr != nil:
		return fmt.Errorf("the ping through the tunnel failed: %w", pingErr)
	case inside != 2*pings || protected != 2*pings:
		return fmt.Errorf("%d packets on the cable, %d of them open to the right content, want %d", protected, inside, 2*pings)
	}
	fmt.Fprintf(s.out, "%d requests answered; %d packets on the cable, each AH around ESP around IP-in-IP, none clear.\n", pings, protected)
	return nil
}

// cleanUp stops the daemons and removes the hosts. It also runs after an interrupt.
func (s *show) cleanUp() {
	s.ctx = context.Background()
	for _, g := range s.hosts {
		if g.started {
			// The result of the demonstration is known: print only failures of stop.
			if out, err := s.run(g, "ipsec setup stop"); err != nil {
				fmt.Fprintf(os.Stderr, "demo: %s: ipsec setup stop: %v\n%s", g.Name, err, out)
			}
		}
		g.Close()
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}

// makeKey makes a key file with ipsec ranbits, and returns the key.
func (s *show) makeKey(g *gateway, file, bits string) ([]byte, error) {
	line := "ipsec ranbits " + bits
	s.command(g, line+" > "+file)
	out, err := s.run(g, line)
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", line, err, out)
	}
	key, err := parseKey(out)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(filepath.Join(s.dir, file), []byte(out), 0o600)
}

// typed shows a command, runs it and shows its output.
func (s *show) typed(g *gateway, line string) error {
	s.command(g, line)
	out, err := s.run(g, line)
	io.WriteString(s.out, out)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", g.Name, line, err)
	}
	return nil
}

// run runs a command line of plain words on a gateway.
func (s *show) run(g *gateway, line string) (string, error) {
	if err := s.ctx.Err(); err != nil {
		return "", err
	}
	words := strings.Fields(line)
	cmd := exec.Command(s.ipsec, words[1:]...)
	cmd.Args[0] = words[0]
	cmd.Dir = s.dir
	// The keys are used only once, so keep no sequence marks.
	cmd.Env = append(os.Environ(), "IPSEC_STATEDIR=none", "PATH="+filepath.Dir(s.ipsec)+":/usr/sbin:/usr/bin:/sbin:/bin")
	// Only this program handles ^C: the commands take milliseconds.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Use a file: the daemon that start leaves behind would hold a pipe open.
	f, err := os.CreateTemp(s.dir, "out")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := g.Start(cmd); err != nil {
		return "", err
	}
	err = cmd.Wait()
	out, _ := os.ReadFile(f.Name())
	return string(bytes.ReplaceAll(out, []byte("\t"), []byte("    "))), err
}

func (s *show) title(text string) {
	fmt.Fprintf(s.out, "\n%s\n%s\n", text, strings.Repeat("-", len(text)))
}

func (s *show) say(text string) { fmt.Fprintln(s.out, text) }

func (s *show) command(g *gateway, line string) { fmt.Fprintf(s.out, "%s# %s\n", g.Name, line) }

func head(f []lab.Frame, n int) []lab.Frame { return f[:min(n, len(f))] }
