package testscripts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

// BenchmarkInteropBulk measures 10 000 SAs, 5 000 groups and 5 000 eroutes, with ipsec
// batch and with ip -batch.
func BenchmarkInteropBulk(b *testing.B) {
	need(b, "xfrm")
	const n = 5000
	for _, k := range bulks() {
		for _, tool := range []struct {
			name, command string
			line          func(*strings.Builder, int)
		}{{"ip", "ip -batch ", k.ip}, {"ipsec", "ipsec --stack xfrm batch ", k.ipsec}} {
			var text strings.Builder
			for i := range n {
				tool.line(&text, i)
			}
			file := filepath.Join(b.TempDir(), "file")
			if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
				b.Fatal(err)
			}
			b.Run(k.name+"/"+tool.name, func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					h, err := lab.NewHost("bulk")
					if err != nil {
						b.Fatal(err)
					}
					b.StartTimer()

					_, err = runOn(h, "", tool.command+file)
					b.StopTimer()
					h.Close()
					if err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		}
	}
}
