package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// short shows the short way to a tunnel: one file for both gateways, one command on each.
func (s *show) short(from, to *gateway) error {
	s.title("The short way")
	s.say(`A file can say the same. Here it has one secret, from which both gateways derive the keys
of ESP, and it brings its routes along:
`)
	for _, g := range s.hosts {
		if err := s.typed(g, "ipsec setup stop"); err != nil {
			return err
		}
	}
	line := fmt.Sprintf("ipsec new net --left %s --leftsubnet %s --right %s --rightsubnet %s --dir %s", from.wire, from.net, to.wire, to.net, s.dir)
	s.command(from, line)
	if out, err := s.run(from, line); err != nil {
		return fmt.Errorf("%s: %w\n%s", line, err, out)
	}
	for _, g := range s.hosts {
		if err := s.typed(g, "ipsec up --config net.conf net"); err != nil {
			return err
		}
	}
	wire, err := to.Capture("eth0", nil)
	if err != nil {
		return err
	}
	defer wire.Stop()
	s.command(from, fmt.Sprintf("ping -c %d -I %s %s", pings, from.inner, to.inner))
	replies, err := from.Ping(lab.Ping{Src: netip.MustParseAddr(from.inner), Dst: netip.MustParseAddr(to.inner), Count: pings})
	if err != nil {
		return errors.Join(s.ctx.Err(), fmt.Errorf("the ping through the tunnel of the file failed: %w", err))
	}
	protected := 0
	frames, _ := wire.Frames()
	for _, f := range frames {
		if lab.IsHousekeeping(wire.Link, f.Data) {
			continue
		}
		if ls := lab.Layers(wire.Link, f.Data); len(ls) != 2 || ls[0].Name != "ip" || ls[1].Name != "esp" {
			return fmt.Errorf("on the cable is %s, not ESP", lab.Summary(wire.Link, f.Data))
		}
		protected++
	}
	if protected != 2*pings {
		return fmt.Errorf("%d packets on the cable, want %d", protected, 2*pings)
	}
	if err := s.typed(from, "ipsec status --config net.conf"); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\n%d requests answered; %d packets on the cable, each ESP, none clear.\n", len(replies), protected)
	return nil
}
