package algs

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/ipcomp"
	"github.com/klips-go/ipsec/klips/user/packet"
)

const (
	packetSize = 1400 // bytes, with the IP header
	batch      = 32   // packets that are in work at once, as many as stack user has
	rounds     = 5    // of all measurements, one after the other; the median counts
	share      = 10 * time.Millisecond
)

// A work is one direction of an algorithm: it handles a batch of packets.
type work func() error

// A bench measures an algorithm with one key length.
type bench struct {
	algorithm     int // its place in the list
	keyBits       int
	send, receive work
	speeds        [2][]int // MB/s of each round
}

// measure returns the speeds of the algorithms, in their order. All are measured in turns,
// so that a disturbance changes one round of each and not all of one.
func measure(ctx context.Context, l []klips.Transform, now func() time.Time) ([][]output.Speed, error) {
	var benches []*bench
	for i, t := range l {
		for _, bits := range keyLengths(t) {
			b, err := newBench(t, bits)
			if err != nil {
				return nil, err
			}
			if b != nil {
				b.algorithm, b.keyBits = i, bits
				benches = append(benches, b)
			}
		}
	}
	for range rounds {
		for _, b := range benches {
			for i, do := range [...]work{b.send, b.receive} {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				mb, err := speed(do, now)
				if err != nil {
					return nil, err
				}
				b.speeds[i] = append(b.speeds[i], mb)
			}
		}
	}
	speeds := make([][]output.Speed, len(l))
	for _, b := range benches {
		speeds[b.algorithm] = append(speeds[b.algorithm], output.Speed{KeyBits: b.keyBits,
			SendMegabytesPerSecond: median(b.speeds[0]), ReceiveMegabytesPerSecond: median(b.speeds[1])})
	}
	return speeds, nil
}

func median(l []int) int {
	slices.Sort(l)
	return l[len(l)/2]
}

// speed repeats work for the share of a round and returns MB/s.
func speed(do work, now func() time.Time) (int, error) {
	start := now()
	for n := 1; ; n++ {
		if err := do(); err != nil {
			return 0, err
		}
		if d := now().Sub(start); d >= share {
			return int(int64(n*batch*packetSize) * int64(time.Second) / int64(d) / 1e6), nil
		}
	}
}

func keyLengths(t klips.Transform) []int {
	var i alg.Info
	switch {
	case t.Enc != alg.EncNone:
		i, _ = t.Enc.Info()
	case t.Auth != alg.AuthNone:
		i, _ = t.Auth.Info()
	default:
		i, _ = t.Comp.Info()
	}
	return i.KeyBits
}

// newBench returns nil for an algorithm that alone does nothing to packets.
func newBench(t klips.Transform, keyBits int) (*bench, error) {
	switch {
	case t.Enc == alg.Null, t.Comp == alg.LZS:
		return nil, nil
	case t.Comp == alg.Deflate:
		return benchDeflate()
	}
	c := esp.Config{SPI: uint32(klips.MinSPI), Transform: t}
	key := make([]byte, keyBits/8)
	for i := range key {
		key[i] = byte(7 * i) // the parts of a key of 3DES must differ
	}
	if c.EncKey = key; t.Enc == alg.EncNone {
		c.Transform.Enc, c.EncKey, c.AuthKey = alg.Null, nil, key
	}
	return benchESP(c)
}

// text makes a batch of IPv4 packets that contain text, which can be compressed.
func text() (l []*packet.Buffer) {
	for n := range batch {
		p := make([]byte, 20, packetSize+64)
		p[0], p[8], p[9] = 0x45, 64, packet.ProtoUDP
		binary.BigEndian.PutUint32(p[12:], 0xc0000201) // 192.0.2.1
		binary.BigEndian.PutUint32(p[16:], 0xc6336402) // 198.51.100.2
		for i := 0; len(p) < packetSize; i++ {
			p = fmt.Appendf(p, "Line %d of the text in packet %d, which a cipher does not know. ", i*i, n)
		}
		p = p[:packetSize]
		packet.SetTotal(p, len(p))
		packet.FixChecksum(p)
		l = append(l, packet.NewBuffer(p))
	}
	return l
}

// contents returns copies of the packets, to restore them.
func contents(l []*packet.Buffer) (all [][]byte) {
	for _, b := range l {
		all = append(all, slices.Clone(b.Bytes()))
	}
	return all
}

// each returns the work of doing something to each packet, whose content is restored first.
func each(packets []*packet.Buffer, from [][]byte, do func(*packet.Buffer, *packet.Header) error) func() error {
	return func() error {
		for i, b := range packets {
			b.Put(from[i])
			h, _ := packet.ParseIP(b.Bytes())
			if err := do(b, &h); err != nil {
				return err
			}
		}
		return nil
	}
}

func benchESP(c esp.Config) (*bench, error) {
	s, err := esp.NewSealer(c)
	if err != nil {
		return nil, err
	}
	o, err := esp.NewOpener(c)
	if err != nil {
		return nil, err
	}
	packets, q := text(), esp.NewQueue(batch)
	clear := contents(packets)
	seq := uint64(0)
	lay := each(packets, clear, func(b *packet.Buffer, h *packet.Header) error {
		seq++
		return s.Lay(q, b, h, seq)
	})
	send := func() error {
		defer q.Finish()
		return lay()
	}
	if err := send(); err != nil {
		return nil, err
	}
	receive := each(packets, contents(packets), func(b *packet.Buffer, h *packet.Header) error {
		if err := o.Verify(b, h, 0); err != nil {
			return err
		}
		_, err := o.Open(b, h)
		return err
	})
	return &bench{send: send, receive: receive}, nil
}

func benchDeflate() (*bench, error) {
	c, d := ipcomp.NewCompressor(), ipcomp.NewDecompressor()
	packets := text()
	send := each(packets, contents(packets), func(b *packet.Buffer, h *packet.Header) error {
		if !c.Compress(b, h, ipcomp.CPIDeflate) {
			return fmt.Errorf("a packet of %d bytes of text was not compressed", packetSize)
		}
		return nil
	})
	if err := send(); err != nil {
		return nil, err
	}
	receive := each(packets, contents(packets), func(b *packet.Buffer, h *packet.Header) error {
		return d.Decompress(b, h, ipcomp.CPIDeflate, ipcomp.DefaultMax)
	})
	return &bench{send: send, receive: receive}, nil
}
