package rawip_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// Before Send waits because a device has too many packets, it calls full. When the device has
// room again, it sends the rest.
func TestSendToFullDevice(t *testing.T) {
	tc, err := exec.LookPath("tc")
	if err != nil {
		skip.Without(t, skip.IP, err)
	}
	for _, v6 := range []bool{false, true} {
		for _, run := range []bool{false, true} {
			t.Run(fmt.Sprintf("IPv6 %v, runs %v", v6, run), func(t *testing.T) {
				l := newLine(t)
				l.portsOn()
				// The kernel drops packets of a burst while it asks for the neighbour.
				l.send(ip(v6, packet.ProtoESP, "first"))
				l.receive(1, "")
				qdisc := func(words string) error {
					text, err := l.here.Output(exec.Command(tc, strings.Fields("qdisc "+words)...))
					if err != nil {
						err = fmt.Errorf("tc qdisc %s: %w: %s", words, err, text)
					}
					return err
				}
				if err := qdisc("add dev eth0 root tbf rate 8kbit burst 1600 limit 100mb"); err != nil {
					skip.Without(t, skip.IP, err)
				}
				var bufs []*packet.Buffer
				for range 8 {
					p := ip(v6, packet.ProtoESP, strings.Repeat("x", 1300))
					if run {
						p = fromPort(v6, strings.Repeat("x", 1300))
					}
					bufs = append(bufs, &packet.Buffer{B: p, End: len(p)})
				}
				full, done := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(done)
					for waits := false; !waits; {
						l.out.Send(bufs, func(_ *packet.Buffer, err error) { t.Error(err) }, func() {
							if !waits {
								close(full)
							}
							waits = true
						})
					}
				}()
				select {
				case <-full:
				case <-time.After(patience):
					t.Fatal("the device is never full")
				}
				select {
				case <-done:
					t.Error("Send has not waited")
				case <-time.After(10 * time.Millisecond):
				}
				l.must(qdisc("del dev eth0 root"))
				select {
				case <-done:
				case <-time.After(patience):
					t.Fatal("Send still waits, but the device has room")
				}
			})
		}
	}
}
