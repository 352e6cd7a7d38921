package testscripts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// A bulk is n groups of two SAs, each with an eroute, as a file for ipsec batch and as
// a file for ip -batch that makes the same states and policies.
type bulk struct {
	name      string
	ipsec, ip func(b *strings.Builder, i int)
}

func bulks() []bulk {
	const esp = "--esp aes128-sha1 --enckey 0x%032x --authkey 0x%040x"
	const espIP = "enc cbc(aes) 0x%032x auth-trunc hmac(sha1) 0x%040x 96"
	route := func(b *strings.Builder, i int, said string) {
		fmt.Fprintf(b, "eroute --add --src 10.0.0.0/16 --dst 10.%d.%d.0/24 --said %s0x%x@192.0.2.2\n", 1+i>>8, i&255, said, 0x1000+i)
	}
	return []bulk{
		{"tun+esp",
			func(b *strings.Builder, i int) {
				spi := 0x1000 + i
				fmt.Fprintf(b, "spi --said tun0x%x@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2\n", spi)
				fmt.Fprintf(b, "spi --said esp0x%x@192.0.2.2 --src 192.0.2.1 "+esp+"\n", spi, spi, spi)
				fmt.Fprintf(b, "spigrp --said tun0x%x@192.0.2.2 esp0x%x@192.0.2.2\n", spi, spi)
				route(b, i, "tun")
			},
			func(b *strings.Builder, i int) {
				spi := 0x1000 + i
				fmt.Fprintf(b, "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi %d reqid %d mode tunnel "+espIP+"\n", spi, spi, spi, spi)
				fmt.Fprintf(b, "xfrm policy add src 10.0.0.0/16 dst 10.%d.%d.0/24 dir out priority %d tmpl src 192.0.2.1 dst 192.0.2.2 proto esp spi %d reqid %d mode tunnel\n",
					1+i>>8, i&255, 1<<21-i, spi, spi)
			}},
		{"esp+ah",
			func(b *strings.Builder, i int) {
				spi := 0x1000 + i
				fmt.Fprintf(b, "spi --said esp0x%x@192.0.2.2 --src 192.0.2.1 "+esp+"\n", spi, spi, spi)
				fmt.Fprintf(b, "spi --said ah0x%x@192.0.2.2 --src 192.0.2.1 --ah hmac-sha1-96 --authkey 0x%040x\n", spi, spi)
				fmt.Fprintf(b, "spigrp --said esp0x%x@192.0.2.2 ah0x%x@192.0.2.2\n", spi, spi)
				route(b, i, "esp")
			},
			func(b *strings.Builder, i int) {
				spi := 0x1000 + i
				fmt.Fprintf(b, "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi %d reqid %d mode transport "+espIP+"\n", spi, spi, spi, spi)
				fmt.Fprintf(b, "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto ah spi %d reqid %d mode transport auth-trunc hmac(sha1) 0x%040x 96\n", spi, spi, spi)
				fmt.Fprintf(b, "xfrm policy add src 10.0.0.0/16 dst 10.%d.%d.0/24 dir out priority %d tmpl proto esp spi %d reqid %d mode transport tmpl proto ah spi %d reqid %d mode transport\n",
					1+i>>8, i&255, 1<<21-i, spi, spi, spi, spi)
			}},
	}
}

// BenchmarkInteropChange measures the commands that make and remove a tunnel, each in its
// own process, among few and among many others.
func BenchmarkInteropChange(b *testing.B) {
	need(b, "xfrm")
	k := bulks()[0]
	for _, n := range []int{5, 5000} {
		h, err := lab.NewHost("change")
		if err != nil {
			b.Fatal(err)
		}
		var text strings.Builder
		for i := range n {
			k.ipsec(&text, i)
		}
		file := filepath.Join(b.TempDir(), "file")
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			b.Fatal(err)
		}
		if _, err := runOn(h, "", "ipsec --stack xfrm batch "+file); err != nil {
			b.Fatal(err)
		}
		text.Reset()
		k.ipsec(&text, n)
		commands := strings.Split(strings.TrimSpace(text.String()), "\n")
		commands = append(commands, fmt.Sprintf("eroute --del --src 10.0.0.0/16 --dst 10.%d.%d.0/24", 1+n>>8, n&255),
			fmt.Sprintf("spi --del --said tun0x%x@192.0.2.2", 0x1000+n))
		b.Run(fmt.Sprint(2*n, " SAs"), func(b *testing.B) {
			for b.Loop() {
				for range 5 {
					for _, c := range commands {
						if _, err := runOn(h, "", "ipsec --stack xfrm "+c); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(5*len(commands)*b.N), "ms/command")
		})
		h.Close()
	}
}

// bulkRounds is how often each of the programs of BenchmarkInteropBulk runs.
const bulkRounds = 3

// BenchmarkInteropBulk measures 10 000 SAs, 5 000 groups and 5 000 eroutes: with ip -batch,
// and with ipsec batch on the stack of the kernel and on the embedded one. They take turns,
// each on a new host.
func BenchmarkInteropBulk(b *testing.B) {
	need(b, "xfrm", "tun")
	const n = 5000
	b.Setenv("IPSEC_RUNDIR", b.TempDir())
	b.Setenv("IPSEC_STATEDIR", b.TempDir())
	for _, k := range bulks() {
		tools := []struct {
			name          string
			start, stop   string // if the stack is a process
			command, file string
			line          func(*strings.Builder, int)
			took          []float64 // milliseconds
		}{
			{name: "ip", command: "ip -batch ", line: k.ip},
			{name: "xfrm", command: "ipsec --stack xfrm batch ", line: k.ipsec},
			{name: "user", command: "ipsec --stack user batch ", line: k.ipsec, start: "ipsec setup start", stop: "ipsec setup stop"},
		}
		for i := range tools {
			t := &tools[i]
			var text strings.Builder
			for i := range n {
				t.line(&text, i)
			}
			t.file = filepath.Join(b.TempDir(), "file")
			if err := os.WriteFile(t.file, []byte(text.String()), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(k.name, func(b *testing.B) {
			for range bulkRounds * b.N {
				for i := range tools {
					t := &tools[i]
					d, err := timeOn(t.start, t.command+t.file, t.stop)
					if err != nil {
						b.Fatal(err)
					}
					t.took = append(t.took, float64(d.Milliseconds()))
				}
			}
			ip := tools[0].took
			for _, t := range tools {
				b.ReportMetric(median(t.took), t.name+"-ms")
				var ratios []float64
				for i := range t.took {
					ratios = append(ratios, t.took[i]/ip[i])
				}
				if t.name != "ip" {
					b.ReportMetric(median(ratios), t.name+"/ip")
				}
			}
			b.ReportMetric(0, "ns/op") // includes the starts of hosts and daemons
		})
	}
}

// timeOn runs commands on a new host; "" is none. It returns how long the second one took.
func timeOn(start, command, stop string) (took time.Duration, err error) {
	h, err := lab.NewHost("bulk")
	if err != nil {
		return 0, err
	}
	defer h.Close()
	for _, c := range []string{start, command, stop} {
		if c == "" {
			continue
		}
		begin := time.Now()
		if _, err := runOn(h, "", c); err != nil {
			return 0, err
		}
		if c == command {
			took = time.Since(begin)
		}
	}
	return took, nil
}

func median(l []float64) float64 {
	l = slices.Sorted(slices.Values(l))
	return l[len(l)/2]
}
