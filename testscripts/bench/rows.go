package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/klips-go/ipsec/testscripts/bed"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// A row is something that is measured of each contender.
type row struct{ key, title, unit string }

func (r row) word() string { return r.key }

// The rows. rss comes last, when packets of all kinds have passed.
var rows = []row{
	{"tcp1", "TCP, one stream", "Gbit/s"},
	{"cpu", "processor time of both daemons in that stream (less is better)", "s/GB"},
	{"tcp4", "TCP, 4 streams", "Gbit/s"},
	{"both", "TCP, one stream in each direction, sum", "Gbit/s"},
	{"tcp6", "TCP, one stream over IPv6", "Gbit/s"},
	{"udp", "UDP with 64 bytes, at most 3 % lost", "packets/s"},
	{"ping", "ping, median of 200 (less is better)", "ms"},
	{"rss", "memory of the larger daemon (less is better)", "MiB"},
}

// measure measures one row of a contender and notes the value in v. before are the rounds
// before this one.
func (r *rig) measure(v round, row row, w openWay, o *options, before []round) error {
	at := func(key string) cell { return cell{key, w.key} }
	note := func(value float64, err error) error {
		if err == nil {
			v[at(row.key)] = value
		}
		return err
	}
	switch row.key {
	case "tcp1", "cpu":
		if _, done := v[at(row.key)]; done {
			return nil
		}
		t, err := r.tcp(w.way, o.window, flow{n: 1, addrs: bed.Inners})
		if err != nil {
			return err
		}
		v[at("tcp1")] = t.bitrate() / 1e9
		if len(w.daemons) > 0 {
			v[at("cpu")] = t.cpu.Seconds() / (float64(t.bytes) / 1e9)
		}
		return nil
	case "tcp4":
		t, err := r.tcp(w.way, o.window, flow{n: 4, addrs: bed.Inners})
		return note(t.bitrate()/1e9, err)
	case "both":
		t, err := r.tcp(w.way, o.window, flow{n: 1, addrs: bed.Inners}, flow{n: 1, addrs: bed.Inners, from: 1})
		return note(t.bitrate()/1e9, err)
	case "tcp6":
		t, err := r.tcp(w.way, o.window, flow{n: 1, addrs: inners6})
		return note(t.bitrate()/1e9, err)
	case "udp":
		last := values(before, at("udp"))
		guess := 20e3
		if len(last) > 0 {
			guess = last[len(last)-1]
		}
		return note(r.udp(w.way, guess))
	case "ping":
		return note(w.ping())
	case "rss":
		if len(w.daemons) == 0 {
			return nil
		}
		var most float64
		for _, pid := range w.daemons {
			m, err := memory(pid, "VmRSS")
			if err != nil {
				return err
			}
			most = max(most, m)
		}
		return note(most, nil)
	}
	return fmt.Errorf("nothing measures the row %s", row.key)
}

// ping returns the median time of answers in milliseconds.
func (w *way) ping() (float64, error) {
	const count = 200
	replies, err := w.hosts[0].Ping(lab.Ping{
		Dst: netip.MustParseAddr(bed.Inners[1]), Src: netip.MustParseAddr(bed.Inners[0]),
		Count: count, Interval: 10 * time.Millisecond, Timeout: time.Second,
	})
	if len(replies) < count/2 {
		return 0, errors.Join(errors.New("most pings were lost"), err)
	}
	slices.SortFunc(replies, func(a, b lab.Reply) int { return int(a.RTT - b.RTT) })
	return replies[len(replies)/2].RTT.Seconds() * 1e3, nil
}
