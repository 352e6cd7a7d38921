package engine

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A batch of packets of many lengths arrives in order and unchanged through each kind of
// group, whether packets are finished together, alone, or before they are cut in pieces.
func TestBatches(t *testing.T) {
	kinds := specs()
	k := bytes.Repeat([]byte{0x5a}, 64)
	tun := klips.SASpec{ID: klips.SAID{Proto: klips.ProtoTun}}
	ah := klips.SASpec{ID: klips.SAID{Proto: klips.ProtoAH}, Transform: klips.Transform{Auth: alg.SHA256}, AuthKey: k[:32]}
	cbc := func(natt klips.NATTType) klips.SASpec {
		return klips.SASpec{ID: klips.SAID{Proto: klips.ProtoESP}, Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1},
			EncKey: k[:16], AuthKey: k[:20], NATT: klips.NATT{Type: natt}}
	}
	kinds["tun+ah+esp"] = []klips.SASpec{tun, ah, cbc(klips.NATTNone)}
	kinds["tun+esp+esp"] = []klips.SASpec{tun, cbc(klips.NATTNone), cbc(klips.NATTNone)}
	kinds["tun+esp+gcm"] = []klips.SASpec{tun, cbc(klips.NATTNone), specs()["transport-aesgcm"][0]}
	kinds["tun+esp+ah+ah"] = []klips.SASpec{tun, cbc(klips.NATTNone), ah, ah}
	kinds["tun+esp in UDP"] = []klips.SASpec{tun, cbc(klips.NATTNonESP)}
	kinds["tun+esp in UDP, draft"] = []klips.SASpec{tun, cbc(klips.NATTNonIKE)}
	for name, layers := range kinds {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1400, layers...)
			b.host.all = new([]*packet.Buffer)
			arrived := new([][]byte)
			b.in.e.devs[0].link.(bareLink).h.written = arrived
			var want [][]byte
			for i := range 100 {
				p := bytes.Clone(b.pkt)
				n := 20 + i*i%1340
				if i%7 == 0 {
					n = 1300 // many of one length
				}
				p = p[:n]
				for j := range p[20:] {
					p[20+j] = byte(i + j)
				}
				binary.BigEndian.PutUint16(p[4:], uint16(i))
				packet.SetTotal(p, n)
				packet.FixChecksum(p)
				want = append(want, p)
				b.out.bufs[i].Put(p)
			}
			b.out.batch(len(want))
			if s := b.out.d.stats.read(); s.TxPackets != 100 || s.TxErrors+s.TxDropped != 0 {
				t.Fatalf("sent: %+v", s)
			}
			for i, p := range *b.host.all {
				b.in.bufs[0], b.in.ifindex[0] = p, 1
				h, ok := packet.ParseIP(p.Bytes())
				if !ok || h.Frag {
					t.Fatalf("packet %d is cut: the payload is too long for this test", i)
				}
				b.in.batch(1)
			}
			if s := b.in.e.devs[0].stats.read(); s.RxErrors+s.RxDropped != 0 {
				t.Fatalf("received: %+v", s)
			}
			if len(*arrived) != len(want) {
				t.Fatalf("%d packets arrive, want %d", len(*arrived), len(want))
			}
			for i, p := range *arrived {
				if !bytes.Equal(p, want[i]) {
					t.Fatalf("packet %d: %x, want %x", i, p, want[i])
				}
			}
		})
	}
}

// Whatever is forgotten, no packet is sent that lacks encryption or an ICV. It counts as
// an error.
func TestNeverUnfinished(t *testing.T) {
	for _, payload := range []int{100, 1480} { // the latter is cut in pieces
		b := newBench(t, payload, specs()["tun+esp+ah"]...)
		b.host.all = new([]*packet.Buffer)
		w := b.out
		w.att = w.d.att.Load()
		for i := range 2 {
			x := w.bufs[i]
			x.Put(b.pkt)
		}
		h, _ := packet.ParseIP(w.bufs[0].Bytes())
		seal := func(x *packet.Buffer) {
			sel := selector(x.Bytes(), &h)
			r := w.e.routes.Lookup(&sel)
			chain := w.e.sas.Lookup(r.ID).Chain()
			mine := h
			if !w.apply(x, &mine, chain) {
				t.Fatal("a packet is not sealed")
			}
			if x.Due != packet.DueESP|packet.DueAH {
				t.Fatalf("a packet lacks %b, want both; the test shows nothing", x.Due)
			}
			w.lay = newUnfinished() // the queues are forgotten
			w.send(x, &mine, false, chain[len(chain)-1], "")
		}
		seal(w.bufs[0])
		seal(w.bufs[1])
		w.flush()
		if n := len(*b.host.all); n != 0 {
			t.Errorf("%d unfinished packets are sent", n)
		}
		if s := w.d.stats.read(); s.TxPackets != 0 || s.TxErrors != 2 {
			t.Errorf("counted: %+v, want 2 errors", s)
		}
	}
}

// An SA that is deleted or gets a new key within a batch leaves no unfinished packet.
func TestReplacedWithin(t *testing.T) {
	b := newBench(t, 100, specs()["tun+aes128sha1"]...)
	b.host.all = new([]*packet.Buffer)
	w := b.out
	w.att = w.d.att.Load()
	id := klips.SAID{Proto: klips.ProtoESP, SPI: 0x1001, Dst: netip.MustParseAddr("192.0.2.2")}
	sa := w.e.sas.Lookup(id)
	for i := range 3 {
		x := w.bufs[i]
		x.Put(b.pkt)
		w.packet(x)
		switch i {
		case 0:
			if err := initStates(sa); err != nil { // every worker makes a new Sealer
				t.Fatal(err)
			}
		case 1:
			if err := w.e.DeleteSA(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.flush()
	if s := w.d.stats.read(); s.TxPackets != 2 {
		t.Errorf("sent: %+v, want 2 packets", s)
	}
	o, err := esp.NewOpener(esp.Config{SPI: 0x1001, Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1},
		EncKey: bytes.Repeat([]byte{0x5a}, 16), AuthKey: bytes.Repeat([]byte{0x5a}, 20)})
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range *b.host.all {
		h, _ := packet.ParseIP(x.Bytes())
		if err := o.Verify(x, &h, 0); err != nil {
			t.Errorf("packet %d: %v", i, err)
		}
		if _, err := o.Open(x, &h); err != nil || !bytes.Equal(x.Bytes()[20:], b.pkt) {
			t.Errorf("packet %d: Open = %v, %x, want %x", i, err, x.Bytes(), b.pkt)
		}
	}
}
