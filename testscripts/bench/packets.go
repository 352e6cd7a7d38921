package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klips-go/ipsec/testscripts/bed"
)

// groups are the measured groups: the SAs of each, inner to outer, as "proto options"
// of ipsec spi.
var groups = []struct{ name, sas string }{
	{"tun+esp aes128-gcm", "esp --esp aes128-gcm --enckey 0x" + hexKey(20)},
	{"tun+esp chacha20-poly1305", "esp --esp chacha20-poly1305 --enckey 0x" + hexKey(36)},
	{"tun+esp aes128-sha1", "esp --esp aes128-sha1 --enckey 0x" + hexKey(16) + " --authkey 0x" + hexKey(20)},
	{"tun+esp+ah aes128-sha1, hmac-sha1-96", "esp --esp aes128-sha1 --enckey 0x" + hexKey(16) + " --authkey 0x" + hexKey(20) +
		";ah --ah hmac-sha1-96 --authkey 0x" + hexKey(20)},
}

// hexKey returns a key for measuring. It is the same in both directions, which must
// never happen with a real key of a combined mode.
func hexKey(n int) string { return strings.Repeat("a5", n) }

// A tunnel is a bed with a group that is measured.
type tunnel struct{ *bed.Bed }

func packets(ipsec string, d time.Duration, rounds int) error {
	made, err := bed.Open(ipsec, "bench")
	if err != nil {
		return err
	}
	defer made.Close()
	b := &tunnel{made}
	clear := measure(b, bed.Wires[1], d, rounds)
	if clear.err != nil {
		return clear.err
	}
	row("clear, TCP", "%.2f Gbit/s", clear.tcp/1e9)
	row("clear, UDP of 64 bytes", "%.0f k packets/s", clear.udp/1e3)
	for _, g := range groups {
		if err := b.group(g.sas); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		m := measure(b, bed.Inners[1], d, rounds)
		if m.err != nil {
			return fmt.Errorf("%s: %w", g.name, m.err)
		}
		row(g.name+", TCP", "%.2f Gbit/s, %.2f of clear", m.tcp/1e9, m.tcp/clear.tcp)
		row(g.name+", UDP of 64 bytes", "%.0f k packets/s, %.2f of clear", m.udp/1e3, m.udp/clear.udp)
		if err := b.Both("spi --clear", "eroute --clear"); err != nil {
			return err
		}
	}
	return nil
}

// group sets up a tunnel in both directions, through a group of a tun SA and the given
// SAs.
func (b *tunnel) group(sas string) error {
	for to := range bed.Wires {
		from := 1 - to
		ids := []string{fmt.Sprintf("tun0x%d00@%s", to+1, bed.Wires[to])}
		lines := []string{fmt.Sprintf("spi --said %s --ip4 --src %s --dst %s", ids[0], bed.Wires[from], bed.Wires[to])}
		for n, sa := range strings.Split(sas, ";") {
			proto, opts, _ := strings.Cut(sa, " ")
			id := fmt.Sprintf("%s0x%d0%d@%s", proto, to+1, n+1, bed.Wires[to])
			ids = append(ids, id)
			lines = append(lines, fmt.Sprintf("spi --said %s --src %s --replay_window 64 %s", id, bed.Wires[from], opts))
		}
		lines = append(lines, "spigrp --said "+strings.Join(ids, " "))
		lines = append(lines, fmt.Sprintf("eroute --add --eraf inet --src %s/32 --dst %s/32 --said %s", bed.Inners[from], bed.Inners[to], ids[0]))
		if err := b.Both(lines...); err != nil {
			return err
		}
	}
	return nil
}

type figures struct {
	tcp float64 // bit/s
	udp float64 // packets/s that arrived
	err error
}

// measure sends from the first host to an address of the second.
func measure(b *tunnel, dst string, d time.Duration, rounds int) (f figures) {
	var tcp, udp []float64
	for range rounds {
		v, err := b.tcp(dst, d)
		if err != nil {
			f.err = err
			return f
		}
		tcp = append(tcp, v)
		if v, err = b.udp(dst, d); err != nil {
			f.err = err
			return f
		}
		udp = append(udp, v)
	}
	f.tcp, f.udp = median(tcp), median(udp)
	return f
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// tcp returns the bits per second of one stream.
func (b *tunnel) tcp(dst string, d time.Duration) (float64, error) {
	var ln net.Listener
	var c net.Conn
	err := b.Hosts[1].Do(func() (err error) { ln, err = net.Listen("tcp", dst+":0"); return err })
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	got := make(chan int64, 1)
	go func() {
		s, err := ln.Accept()
		if err != nil {
			got <- 0
			return
		}
		defer s.Close()
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, make([]byte, 1<<18))
		got <- n
	}()
	err = b.Hosts[0].Do(func() (err error) { c, err = net.DialTimeout("tcp", ln.Addr().String(), 5*time.Second); return err })
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	_ = c.SetDeadline(begin.Add(d))
	buf := make([]byte, 1<<18)
	for {
		if _, err = c.Write(buf); err != nil {
			break
		}
	}
	c.Close()
	select {
	case n := <-got:
		return float64(n) * 8 / time.Since(begin).Seconds(), nil
	case <-time.After(10 * time.Second):
		return 0, errors.New("the stream did not end")
	}
}

// udp returns how many 64-byte packets per second arrive when the sender sends at full
// speed.
func (b *tunnel) udp(dst string, d time.Duration) (float64, error) {
	var in net.PacketConn
	var out net.Conn
	err := b.Hosts[1].Do(func() (err error) { in, err = net.ListenPacket("udp", dst+":0"); return err })
	if err != nil {
		return 0, err
	}
	defer in.Close()
	_ = in.(*net.UDPConn).SetReadBuffer(4 << 20)
	if err = b.Hosts[0].Do(func() (err error) { out, err = net.Dial("udp", in.LocalAddr().String()); return err }); err != nil {
		return 0, err
	}
	defer out.Close()
	var got atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			if _, _, err := in.ReadFrom(buf); err != nil {
				return
			}
			got.Add(1)
		}
	}()
	pkt := make([]byte, 64-28)
	begin := time.Now()
	for time.Since(begin) < d {
		for range 64 {
			_, _ = out.Write(pkt)
		}
	}
	spent := time.Since(begin)
	time.Sleep(50 * time.Millisecond)
	in.Close()
	<-done
	return float64(got.Load()) / spent.Seconds(), nil
}
