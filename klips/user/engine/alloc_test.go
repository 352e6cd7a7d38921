package engine

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// bareHost is a host without goroutines: tests call the workers.
type bareHost struct {
	local netip.Addr
	sent  *packet.Buffer // copy of the last packet sent

	all     *[]*packet.Buffer // copies of all packets sent; nil: not kept
	written *[][]byte         // copies of what is written to the link; nil: not kept
}

func (h *bareHost) UnprivilegedPorts() int                   { return 1024 }
func (h *bareHost) SendICMP(netip.Addr, uint8, []byte) error { return nil }

func (h *bareHost) IsLocal(a netip.Addr) bool                 { return a == h.local }
func (h *bareHost) OpenLink(string) (Link, error)             { return bareLink{make(chan struct{}), h}, nil }
func (h *bareHost) LeftLinks() ([]LeftLink, error)            { return nil, nil }
func (h *bareHost) OpenWire(string, WireEvents) (Wire, error) { return bareWire{h}, nil }
func (h *bareHost) WhenUp(string, int, func(string)) func()   { return func() {} }
func (h *bareHost) OpenReceiver(int) (Receiver, error)        { return bareLink{make(chan struct{}), h}, nil }
func (h *bareHost) send(pkts []*packet.Buffer) {
	if h.all != nil {
		for _, b := range pkts {
			*h.all = append(*h.all, &packet.Buffer{B: bytes.Clone(b.B), Off: b.Off, End: b.End, Sealed: b.Sealed})
		}
		return
	}
	b := pkts[len(pkts)-1]
	h.sent.Put(b.Bytes())
	packet.FixChecksum(h.sent.Bytes())
}

type bareLink struct {
	gone chan struct{}
	h    *bareHost
}

func (l bareLink) Write(pkts []*packet.Buffer, _ func(*packet.Buffer, error)) {
	if l.h.written != nil {
		for _, b := range pkts {
			*l.h.written = append(*l.h.written, bytes.Clone(b.Bytes()))
		}
	}
}

func (l bareLink) Name() string                              { return "ipsec0" }
func (l bareLink) MTU() (int, error)                         { return klips.DeviceMTU, nil }
func (l bareLink) SetMTU(int) error                          { return nil }
func (l bareLink) Quiet(uint8, bool) error                   { return nil }
func (l bareLink) SetUDPPorts([]uint16)                      {}
func (l bareLink) Release()                                  {}
func (l bareLink) Keep(string, int, bool) error              { return nil }
func (l bareLink) ShareLinkLocal(int) error                  { return nil }
func (l bareLink) Remove() error                             { return l.Close() }
func (l bareLink) Close() error                              { close(l.gone); return nil }
func (l bareLink) Read([]*packet.Buffer) (int, error)        { <-l.gone; return 0, os.ErrClosed }
func (l bareLink) Poll([]*packet.Buffer) (int, error)        { return 0, nil }
func (l bareLink) Join(Link)                                 {}
func (l bareLink) Recv([]*packet.Buffer, []int) (int, error) { <-l.gone; return 0, os.ErrClosed }

type bareWire struct{ h *bareHost }

func (w bareWire) Name() string            { return "eth0" }
func (w bareWire) Index() int              { return 1 }
func (w bareWire) MTU() int                { return 1500 }
func (w bareWire) RouteMTU(netip.Addr) int { return 1500 }
func (w bareWire) Join(netip.Addr) error   { return nil }
func (w bareWire) Leave(netip.Addr) error  { return nil }
func (w bareWire) Hops() (v4, v6 uint8) {
	return 64, 64
}
func (w bareWire) Direct() error { return nil }
func (w bareWire) Close() error  { return nil }
func (w bareWire) Send(p []*packet.Buffer, _ func(*packet.Buffer, error), _ func()) {
	w.h.send(p)
}

// bench is a sender and a receiver with one group between them.
type bench struct {
	host *bareHost
	out  *outWorker
	in   *inWorker
	pkt  []byte
}

func newBench(t testing.TB, payload int, layers ...klips.SASpec) *bench {
	src, dst := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	from, to := src, dst // of the packet: the gateways themselves, or hosts behind them
	if layers[0].ID.Proto == klips.ProtoTun {
		from, to = netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.2.0.5")
	}
	b := &bench{host: &bareHost{local: src, sent: &packet.Buffer{B: make([]byte, 1<<16)}}}
	mk := func(h Host) *Engine {
		e, err := New(h, Config{})
		if err == nil {
			err = e.CreateDevice(t.Context(), "ipsec0")
		}
		if err == nil {
			err = e.Attach(t.Context(), "ipsec0", "eth0")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		var ids []klips.SAID
		for i, s := range layers {
			s.ID.Dst, s.ID.SPI, s.Src = dst, klips.SPI(0x1000+i), src
			ids = append(ids, s.ID)
			err = errors.Join(err, e.AddSA(t.Context(), &s))
		}
		if len(ids) > 1 {
			err = errors.Join(err, e.Group(t.Context(), ids))
		}
		err = errors.Join(err, e.SetEroute(t.Context(), klips.Eroute{
			Selector: klips.Selector{Src: netip.PrefixFrom(from, 32), Dst: netip.PrefixFrom(to, 32)},
			ID:       ids[0],
		}, klips.ErouteAdd))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := mk(b.host)
	b.out = newOutWorker(e, e.devs[0], 1, packet.NewBuffers(batchSize))
	b.in = newInWorker(mk(&bareHost{local: dst}), 0, newParcel())
	b.pkt = make([]byte, 20+payload)
	copy(b.pkt[20:], bytes.Repeat([]byte("compress me "), payload/12+1))
	copy(b.pkt, []byte{0x45, 0, 0, 0, 1, 2, 0, 0, 63, 253})
	copy(b.pkt[12:], from.AsSlice())
	copy(b.pkt[16:], to.AsSlice())
	packet.SetTotal(b.pkt, len(b.pkt))
	packet.FixChecksum(b.pkt)
	return b
}

// send sends the packet through the outbound path n times in one batch.
func (b *bench) send(n int) {
	for i := range n {
		b.out.bufs[i].Put(b.pkt)
	}
	b.out.batch(n)
}

// receive gives the last packet sent to the inbound path n times.
func (b *bench) receive(n int) {
	for i := range n {
		d := b.in.bufs[i]
		d.Put(b.host.sent.Bytes())
		b.in.ifindex[i] = 1
	}
	b.in.batch(n)
}

func specs() map[string][]klips.SASpec {
	k := bytes.Repeat([]byte{0x5a}, 64)
	tun := klips.SASpec{ID: klips.SAID{Proto: klips.ProtoTun}}
	comp := klips.SASpec{ID: klips.SAID{Proto: klips.ProtoComp}, Transform: klips.Transform{Comp: alg.Deflate}}
	esp := func(e alg.Enc, ek int, a alg.Auth, ak int) klips.SASpec {
		return klips.SASpec{ID: klips.SAID{Proto: klips.ProtoESP}, Transform: klips.Transform{Enc: e, Auth: a}, EncKey: k[:ek], AuthKey: k[:ak]}
	}
	ah := klips.SASpec{ID: klips.SAID{Proto: klips.ProtoAH}, Transform: klips.Transform{Auth: alg.SHA1}, AuthKey: k[:20]}
	return map[string][]klips.SASpec{
		"tun+aes128gcm":     {tun, esp(alg.AESGCM, 20, 0, 0)},
		"tun+chacha20":      {tun, esp(alg.ChaCha20Poly1305, 36, 0, 0)},
		"tun+aes128sha1":    {tun, esp(alg.AES, 16, alg.SHA1, 20)},
		"tun+aes256sha2":    {tun, esp(alg.AES, 32, alg.SHA256, 32)},
		"tun+3desmd5":       {tun, esp(alg.TripleDES, 24, alg.MD5, 16)},
		"tun+esp+ah":        {tun, esp(alg.AES, 16, alg.SHA1, 20), ah},
		"tun+comp+esp":      {tun, comp, esp(alg.AESGCM, 20, 0, 0)},
		"transport-aesgcm":  {esp(alg.AESGCM, 20, 0, 0)},
		"transport-ah-sha1": {ah},
	}
}

// The path of a packet allocates nothing after the worker's first packet of an SA.
func TestNoAllocations(t *testing.T) {
	for name, layers := range specs() {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1000, layers...)
			b.send(batchSize)
			if s := b.out.d.stats.read(); s.TxPackets != batchSize || s.TxErrors+s.TxDropped != 0 {
				t.Fatalf("sent: %+v", s)
			}
			if n := testing.AllocsPerRun(20, func() { b.send(batchSize) }); n != 0 {
				t.Errorf("a batch of %d outbound packets allocates %v times", batchSize, n)
			}
			b.receive(batchSize)
			d := b.in.e.devs[0].stats.read()
			if d.RxBytes == 0 || d.RxErrors+d.RxDropped != 0 {
				t.Fatalf("received: %+v", d)
			}
			if n := testing.AllocsPerRun(20, func() { b.receive(batchSize) }); n != 0 {
				t.Errorf("a batch of %d inbound packets allocates %v times", batchSize, n)
			}
		})
	}
}

// The choice of an SA allocates nothing.
func TestChooseAllocates(t *testing.T) {
	b := newBench(t, 1000, specs()["tun+aes128gcm"]...)
	e := b.out.e
	r := e.routes.ByAge()[0].Eroute()
	r.Also = furtherSAs(klips.MaxAlso)
	if err := e.SetEroute(t.Context(), r, klips.ErouteReplace); err != nil {
		t.Fatal(err)
	}
	b.send(batchSize)
	if s := b.out.d.stats.read(); s.TxPackets != batchSize {
		t.Fatalf("sent: %+v", s)
	}
	if n := testing.AllocsPerRun(20, func() { b.send(batchSize) }); n != 0 {
		t.Errorf("a batch of %d packets allocates %v times", batchSize, n)
	}
}

func BenchmarkPath(b *testing.B) {
	const batch = 32 // what a device gives at once to a busy worker
	for name, layers := range specs() {
		for _, size := range []int{64, 1400} {
			run := func(dir string, f func(x *bench)) {
				b.Run(name+"/"+strconv.Itoa(size)+"/"+dir, func(b *testing.B) {
					x := newBench(b, size-20, layers...)
					x.send(1)
					b.SetBytes(batch * int64(size))
					for b.Loop() {
						f(x)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/packet")
				})
			}
			run("out", func(x *bench) { x.send(batch) })
			run("in", func(x *bench) { x.receive(batch) })
		}
	}
}
