package rawip_test

import (
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
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
				qdisc := func(words string) (string, error) {
					text, err := l.here.Output(exec.Command(tc, strings.Fields("-s qdisc "+words)...))
					if err != nil {
						err = fmt.Errorf("tc qdisc %s: %w: %s", words, err, text)
					}
					return text, err
				}
				if _, err := qdisc("add dev eth0 root tbf rate 8kbit burst 1600 limit 100mb"); err != nil {
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
				var room atomic.Bool
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
					if !room.Load() {
						t.Error("Send has not waited")
					}
				}()
				select {
				case <-full:
				case <-time.After(patience):
					t.Fatal("the device is never full")
				}
				queue, err := qdisc("show dev eth0")
				if l.must(err); !strings.Contains(queue, "backlog") || strings.Contains(queue, "backlog 0b") {
					t.Errorf("the device is full without packets: %s", queue)
				}
				room.Store(true)
				_, err = qdisc("del dev eth0 root")
				l.must(err)
				select {
				case <-done:
				case <-time.After(patience):
					t.Fatal("Send still waits, but the device has room")
				}
			})
		}
	}
}
