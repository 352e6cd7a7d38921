package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/klips-go/ipsec/klips/xfrm"
	"github.com/klips-go/ipsec/testscripts/bed"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// A contender is a way for packets between two hosts.
type contender struct {
	key, name string
	open      func(r *rig) (*way, error) // an absentError: it is left out
}

func (c contender) word() string { return c.key }

// baseline is the contender that the others are compared with.
const baseline = "wireguard"

var contenders = []contender{
	{"clear", "no tunnel", openClear},
	{baseline, "wireguard-go", openWireGuard},
	{"strongswan", "strongSwan's libipsec, aes128-gcm in UDP", openStrongSwan},
	{"udp", "tun+esp aes128-gcm in UDP", ours("user", esp("aes128-gcm", 20)+" --natt nonesp --sport 4500 --dport 4500")},
	{"raw", "tun+esp aes128-gcm", ours("user", esp("aes128-gcm", 20))},
	{"direct", "tun+esp aes128-gcm, attached with --direct", oursAttached("user", "--direct", esp("aes128-gcm", 20))},
	{"cbc", "tun+esp aes128-sha1", ours("user", esp("aes128-sha1", 16)+" --authkey "+key(20))},
	{"ah", "tun+esp+ah aes128-gcm, hmac-sha1-96", ours("user", esp("aes128-gcm", 20), "ah --ah hmac-sha1-96 --authkey "+key(20))},
	{"xfrm", "tun+esp aes128-gcm, stack xfrm", ours("xfrm", esp("aes128-gcm", 20))},
}

// A way is an open contender: two hosts whose inner addresses reach each other.
type way struct {
	hosts   [2]*lab.Host
	daemons []int // the processes that handle its packets; none if the kernel does
	close   func()
}

// An absentError is the reason why a contender is left out here.
type absentError struct{ why string }

func (e absentError) Error() string { return e.why }

// inners6 are the IPv6 addresses behind the hosts, beside those of IPv4 in bed.Inners.
var inners6 = [2]string{"fd00:1::1", "fd00:2::1"}

func addInners6(hosts [2]*lab.Host) error {
	var errs []error
	for i, h := range hosts {
		errs = append(errs, h.AddAddr("lo", netip.MustParsePrefix(inners6[i]+"/128")))
	}
	return errors.Join(errs...)
}

// routeInners routes both inner addresses of the peer through a device. via, if any, are
// the gateways.
func routeInners(h *lab.Host, i int, dev string, via ...string) error {
	var errs []error
	for v, inner := range [][2]string{bed.Inners, inners6} {
		r := lab.Route{Dst: host(inner[1-i]), Dev: dev, Src: netip.MustParseAddr(inner[i])}
		if via != nil {
			r.Via = netip.MustParseAddr(via[v])
		}
		errs = append(errs, h.AddRoute(r))
	}
	return errors.Join(errs...)
}

// host returns the prefix of one address.
func host(a string) netip.Prefix {
	ip := netip.MustParseAddr(a)
	return netip.PrefixFrom(ip, ip.BitLen())
}

// await waits until packets pass, of both families.
func (w *way) await() error {
	for v, inner := range [][2]string{bed.Inners, inners6} {
		p := lab.Ping{Dst: netip.MustParseAddr(inner[1]), Src: netip.MustParseAddr(inner[0]), Timeout: time.Second}
		var err error
		if lab.Await(func() bool { _, err = w.hosts[0].Ping(p); return err == nil }) != nil {
			return fmt.Errorf("no packet of IPv%d passes: %w", 4+2*v, err)
		}
	}
	return nil
}

// newWay makes two hosts with addresses behind them, and nothing between but the cable. The
// way is not nil if it must be closed.
func newWay(name string, options ...lab.Option) (*way, error) {
	hosts, err := bed.Pair(name, options...)
	if err != nil {
		return nil, err
	}
	w := &way{hosts: hosts}
	w.close = func() {
		for _, h := range hosts {
			h.Close()
		}
	}
	return w, addInners6(hosts)
}

func openClear(*rig) (*way, error) {
	w, err := newWay("clear")
	if err != nil {
		return w, err
	}
	hosts, errs := w.hosts, []error{}
	for i, h := range hosts {
		errs = append(errs, h.AddAddr("eth0", netip.MustParsePrefix(fmt.Sprintf("fd00::%d/64", i+1))))
	}
	for i, h := range hosts {
		errs = append(errs, routeInners(h, i, "eth0", bed.Wires[1-i], fmt.Sprintf("fd00::%d", 2-i)))
	}
	return w, errors.Join(errs...)
}

// key returns a key for measuring. It is the same in both directions, which must never
// happen with a real key of a combined mode.
func key(n int) string { return "0x" + strings.Repeat("a5", n) }

func esp(algorithm string, keySize int) string {
	return "esp --esp " + algorithm + " --enckey " + key(keySize)
}

// ours returns what opens a stack of ours with a group in each direction: a tun SA, and
// sas, inner to outer, as "proto options" of ipsec spi.
func ours(stack string, sas ...string) func(*rig) (*way, error) {
	return oursAttached(stack, "", sas...)
}

// oursAttached is ours with an option of tncfg --attach.
func oursAttached(stack, option string, sas ...string) func(*rig) (*way, error) {
	return func(r *rig) (*way, error) {
		if stack == "xfrm" {
			if err := bed.TryXfrm(func(*xfrm.Stack) error { return nil }); err != nil {
				return nil, absentError{err.Error()}
			}
		}
		b, err := bed.Open(r.ipsec, "ours", "IPSEC_STACK="+stack)
		if err != nil {
			return nil, err
		}
		w := &way{hosts: b.Hosts, close: b.Close}
		if err := addInners6(b.Hosts); err != nil {
			return w, err
		}
		if option != "" {
			if err := b.Both("tncfg --detach --virtual ipsec0", "tncfg --attach --virtual ipsec0 --physical eth0 "+option); err != nil {
				return w, err
			}
		}
		if err := groups(b, sas); err != nil {
			if stack == "xfrm" { // the kernel may lack the algorithm
				err = absentError{err.Error()}
			}
			return w, err
		}
		for i, h := range b.Hosts {
			if err := routeInners(h, i, "ipsec0"); err != nil {
				return w, err
			}
			if stack == "user" {
				pid, err := b.PID(i)
				if err != nil {
					return w, err
				}
				w.daemons = append(w.daemons, pid)
			}
		}
		return w, nil
	}
}

// groups makes the group of each direction, and the eroutes into it, on both hosts.
func groups(b *bed.Bed, sas []string) error {
	for to := range bed.Wires {
		from := 1 - to
		ids := []string{fmt.Sprintf("tun0x%d00@%s", to+1, bed.Wires[to])}
		lines := []string{fmt.Sprintf("spi --said %s --ip4 --src %s --dst %s", ids[0], bed.Wires[from], bed.Wires[to])}
		for n, sa := range sas {
			proto, opts, _ := strings.Cut(sa, " ")
			id := fmt.Sprintf("%s0x%d0%d@%s", proto, to+1, n+1, bed.Wires[to])
			ids = append(ids, id)
			lines = append(lines, fmt.Sprintf("spi --said %s --src %s --replay_window 64 %s", id, bed.Wires[from], opts))
		}
		lines = append(lines, "spigrp --said "+strings.Join(ids, " "))
		if err := b.Both(lines...); err != nil {
			return err
		}
		for _, inner := range [][2]string{bed.Inners, inners6} {
			family := "inet"
			if strings.Contains(inner[0], ":") {
				family = "inet6"
			}
			line := fmt.Sprintf("eroute --add --eraf %s --src %s --dst %s --said %s", family, host(inner[from]), host(inner[to]), ids[0])
			if err := b.Run(from, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// exist returns an error unless all files exist.
func exist(files ...string) error {
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return err
		}
	}
	return nil
}
