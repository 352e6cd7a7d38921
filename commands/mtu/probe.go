package mtu

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/klips-go/ipsec/commands/internal/output"
)

// An answer is the result of an echo request.
type answer struct {
	ok     bool
	reason string // if it is not: why, in words
}

// An echoer sends one echo request that may not be fragmented, in a packet of size bytes, and
// waits for the answer. The error is one after which no other request can be sent.
type echoer interface {
	echo(ctx context.Context, size int) (answer, error)
	close()
}

// silence is the reason if nothing comes back.
const silence = "there is no answer, and no router reports why"

const (
	tries   = 3           // of each length that is not answered
	perEcho = time.Second // to wait for an answer
)

// measure finds the longest packet that is answered.
func (r *request) measure(ctx context.Context, m *output.MTU) error {
	if !m.Source.IsValid() {
		return fmt.Errorf("--probe: no address of this host is in the source network of the eroute %s, so only another host can send through it; probe from there", m.Eroute)
	}
	e := r.echo
	if e == nil {
		var err error
		if e, err = openEcho(m.Source, m.Destination); err != nil {
			return fmt.Errorf("--probe: %w", err)
		}
	}
	defer e.close()
	probe, err := search(ctx, e, smallest(m.Destination), m.LongestPacketBytes, max(m.DeviceMTUBytes, m.LongestPacketBytes))
	if err != nil {
		return fmt.Errorf("--probe: %w", err)
	}
	m.Probe = probe
	if n := probe.LargestAnsweredBytes; n != 0 && n < m.LongestPacketBytes && probe.Reason == silence {
		advice := "the path carries less than the arithmetic allows, and nobody reports it"
		if n = max(n, minMTU6); n < m.DeviceMTUBytes {
			advice += fmt.Sprintf("; until that is mended, write mtu=%d into the file of the connection, or type: ip link set %s mtu %d", n, m.Device, n)
		}
		m.Advice = append(m.Advice, advice)
	}
	return nil
}

// smallest returns the length of the shortest echo request.
func smallest(dst netip.Addr) int {
	if dst.Is6() {
		return 40 + echoHeader
	}
	return 20 + echoHeader
}

// search finds the longest packet that is answered, from low to high bytes. It first tries
// the expected length and the next one, which need no more if the expectation is right.
func search(ctx context.Context, e echoer, low, expected, high int) (*output.MTUProbe, error) {
	p := &output.MTUProbe{}
	try := func(size int) (bool, error) {
		var a answer
		for range tries {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			var err error
			if a, err = e.echo(ctx, size); err != nil {
				return false, err
			}
			if a.ok {
				p.LargestAnsweredBytes = max(p.LargestAnsweredBytes, size)
				return true, nil
			}
		}
		if p.SmallestLostBytes == 0 || size < p.SmallestLostBytes {
			p.SmallestLostBytes, p.Reason = size, a.reason
		}
		return false, nil
	}
	if ok, err := try(low); err != nil || !ok {
		return p, err
	}
	high = max(high, expected+1)
	for _, size := range []int{expected, expected + 1, high} {
		if size <= p.LargestAnsweredBytes || p.SmallestLostBytes != 0 && size >= p.SmallestLostBytes {
			continue
		}
		if _, err := try(size); err != nil {
			return p, err
		}
	}
	for p.SmallestLostBytes != 0 && p.SmallestLostBytes > p.LargestAnsweredBytes+1 {
		if _, err := try((p.SmallestLostBytes + p.LargestAnsweredBytes) / 2); err != nil {
			return p, err
		}
	}
	return p, nil
}
