package engine

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// load puts packets into the buffers of the inbound worker and lets it handle them.
func (b *bench) load(packets ...[]byte) {
	for i, p := range packets {
		d := b.in.bufs[i]
		d.Put(p)
		b.in.ifindex[i] = 1
	}
	b.in.batch(len(packets))
}

// record makes the host keep what is sent by b, and what arrives.
func (b *bench) record() (sent *[]*packet.Buffer, arrived *[][]byte) {
	b.host.all = new([]*packet.Buffer)
	arrived = new([][]byte)
	b.in.e.devs[0].link.(bareLink).h.written = arrived
	return b.host.all, arrived
}

// A batch has the same results as its packets one by one: the same packets arrive, and
// the same counters change. Some of its packets are forged, shortened, sent again, too
// old, or of another SA.
func TestForesight(t *testing.T) {

	seed := rand.Uint64()
	if v := os.Getenv("SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("again with: SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	kinds := specs()
	inUDP := specs()["tun+aes128sha1"]
	inUDP[1].NATT.Type = klips.NATTNonESP
	kinds["in UDP"] = inUDP
	long := specs()["tun+aes256sha2"]
	long[1].ESN = true
	kinds["ESN"] = long
	for name, layers := range kinds {
		for i := range layers {
			if layers[i].ID.Proto != klips.ProtoTun && layers[i].ID.Proto != klips.ProtoComp {
				layers[i].Window = 64
			}
		}
		t.Run(name, func(t *testing.T) {
			x, y := newBench(t, 900, layers...), newBench(t, 900, layers...)
			sent, together := x.record()
			_, alone := y.record()
			for n := range 100 { // of some lengths, so that lengths repeat
				x.out.bufs[n].Put(x.pkt[:100+100*rnd.IntN(8)])
				p := x.out.bufs[n].Bytes()
				packet.SetTotal(p, len(p))
				packet.FixChecksum(p)
			}
			x.out.batch(100)
			var stream [][]byte
			for _, b := range *sent {
				p := bytes.Clone(b.Bytes())
				bad := bytes.Clone(p)
				switch rnd.IntN(8) {
				case 0:
					bad[20+rnd.IntN(len(p)-20)] ^= byte(1 + rnd.IntN(255)) // any field after the IP header
					stream = append(stream, bad)
				case 1:
					bad[len(bad)-1] ^= 1 // the ICV or what it covers
					stream = append(stream, bad, p)
				case 2:
					n := 20 + rnd.IntN(60)
					packet.SetTotal(bad, n)
					packet.FixChecksum(bad[:n])
					stream = append(stream, bad[:n], p)
				case 3:
					stream = append(stream, p, p)
				case 4:
					stream = append(stream, p)
					stream = append(stream, stream[rnd.IntN(len(stream))])
				case 5:
					binary.BigEndian.PutUint32(bad[20:], 0x7777) // another SPI, or another port
					stream = append(stream, bad, p)
				default:
					stream = append(stream, p)
				}
			}
			for l := stream; len(l) > 0; {
				n := min(len(l), 1+rnd.IntN(20))
				x.load(l[:n]...)
				l = l[n:]
			}
			for _, p := range stream {
				y.load(p)
			}
			if len(*together) < 50 {
				t.Errorf("only %d packets arrive; the test shows little", len(*together))
			}
			if d := cmp.Diff(*alone, *together); d != "" {
				t.Errorf("other packets arrive in batches than alone: %s", d)
			}
			if a, b := y.in.e.devs[0].stats.read(), x.in.e.devs[0].stats.read(); a != b {
				t.Errorf("counters of the device:\n%+v, alone\n%+v", b, a)
			}
			for i := range layers {
				count := func(b *bench) [3]uint64 {
					sa := b.in.e.sas.Lookup(klips.SAID{Proto: layers[i].ID.Proto, SPI: klips.SPI(0x1000 + i), Dst: netip.MustParseAddr("192.0.2.2")})
					return [3]uint64{uint64(sa.AuthErrs.Load()), uint64(sa.ReplayErrs.Load()), sa.Replay.Last()}
				}
				if a, b := count(y), count(x); a != b {
					t.Errorf("SA %d: wrong ICVs, replays and last number are %v, alone %v", i, b, a)
				}
			}
		})
	}
}

// A forged packet in the memory of an authentic one, whose ICV was computed and never
// used, is refused.
func TestForesightForgets(t *testing.T) {
	for _, name := range []string{"tun+aes128sha1", "transport-ah-sha1"} {
		layers := specs()[name]
		for i := range layers {
			if layers[i].ID.Proto != klips.ProtoTun && layers[i].ID.Proto != klips.ProtoComp {
				layers[i].Window = 64
			}
		}
		b := newBench(t, 400, layers...)
		sent, arrived := b.record()
		b.send(3)
		first, second, third := (*sent)[0].Bytes(), (*sent)[1].Bytes(), (*sent)[2].Bytes()
		b.load(first)
		b.load(second, first) // the ICV of first is computed, but first is a replay
		if len(*arrived) != 2 {
			t.Fatalf("%s: %d packets arrive, want 2", name, len(*arrived))
		}
		// The third packet with the ICV of the first, in the same memory.
		forged := bytes.Clone(third)
		n := 12
		at := len(forged) - n
		if name == "transport-ah-sha1" {
			at = 20 + 12
		}
		copy(forged[at:at+n], first[at:at+n])
		b.load(third[:19], forged)
		b.load(forged)
		if len(*arrived) != 2 {
			t.Errorf("%s: a forged packet arrives", name)
		}
		id := klips.SAID{Proto: layers[len(layers)-1].ID.Proto, SPI: klips.SPI(0x1000 + len(layers) - 1), Dst: netip.MustParseAddr("192.0.2.2")}
		if sa := b.in.e.sas.Lookup(id); sa.AuthErrs.Load() != 2 {
			t.Errorf("%s: %d wrong ICVs, want 2", name, sa.AuthErrs.Load())
		}
		if b.in.ahead != (foresight{}) {
			t.Errorf("%s: something is left after the batch", name)
		}
	}
}
