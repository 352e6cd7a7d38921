package engine

import (
	"bytes"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// Packets that an SA has made are sealed when they are sent, whole and in pieces. Packets in
// clear are not, although they lie where sealed ones have been: those of an eroute to %pass,
// and the host's own ESP.
func TestSealed(t *testing.T) {
	var sent []*packet.Buffer
	send := func(b *bench, what string, want bool, n int) {
		t.Helper()
		sent = nil
		b.send(4)
		if len(sent) != n {
			t.Errorf("%s: %d packets were sent, want %d", what, len(sent), n)
		}
		for _, p := range sent {
			if p.Sealed != want {
				t.Errorf("%s: sealed is %v, want %v", what, p.Sealed, want)
			}
		}
	}
	for name, layers := range specs() {
		b := newBench(t, 1000, layers...)
		b.host.all = &sent
		send(b, name, true, 4)
		own := bytes.Clone(b.pkt)
		own[9] = packet.ProtoESP
		copy(own[12:], []byte{192, 0, 2, 1, 192, 0, 2, 2})
		packet.FixChecksum(own)
		b.pkt, own = own, b.pkt
		send(b, name+", the host's own ESP", false, 4)
		b.pkt = own
		pass := klips.Eroute{ID: klips.Magic(klips.SPIPass)}
		pass.Selector = b.out.e.routes.ByAge()[0].Selector()
		if err := b.out.e.SetEroute(t.Context(), pass, klips.ErouteReplace); err != nil {
			t.Fatal(err)
		}
		send(b, name+", %pass", false, 4)
		if layers[0].ID.Proto == klips.ProtoTun && layers[1].ID.Proto != klips.ProtoComp {
			long := newBench(t, 1490, layers...)
			long.host.all = &sent
			send(long, name+" in pieces", true, 8)
		}
	}
}
