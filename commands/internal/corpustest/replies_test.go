package corpustest

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// TestModuleReplies: a socket on the module receives exactly the recorded messages of
// the kernel, for commands and for its own REGISTER. Sequence numbers, process ids, and
// messages about packets are not compared.
func TestModuleReplies(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		skip.Without(t, skip.LittleEndian, "the bytes would differ")
	}
	heard := 0
	for x := range recorded.Exchanges(t) {
		if !x.Listens() {
			continue
		}
		t.Run(x.ID, func(t *testing.T) {
			m := module.New(func() time.Duration { return 0 })
			m.SetPhysical("eth0", x.Setup.Eth0MTU)
			m.AddAddr(netip.MustParsePrefix(x.Setup.Eth0).Addr())
			c := newClassic(m)
			w := &world{t: t, stack: c}
			for _, cmd := range x.Commands {
				if cmd.Tool == "pf_key" {
					c.socket.Write(cmd.Sent)
				} else if cmd.Tool != "ip" {
					w.run(cmd.Cmd)
				}
			}
			var listener *module.Socket
			for i, e := range x.Events {
				if e.Listen != nil {
					listener = m.Open(0)
					for _, satype := range *e.Listen {
						b, err := pfkey.Register(pfkey.SAType(satype)).Marshal()
						if err != nil {
							t.Fatal(err)
						}
						listener.Write(b)
					}
				}
				if e.Cmd != nil {
					w.run(e.Cmd)
				}
				if listener == nil {
					continue
				}
				var want, got []string
				for _, b := range e.PFKey {
					if about := pfkey.Type(b[1]); about != pfkey.TypeAcquire && about != pfkey.TypeExpire {
						want = append(want, anonymous(b))
					}
				}
				for b, ok := listener.Read(); ok; b, ok = listener.Read() {
					got = append(got, anonymous(b))
				}
				heard += len(got)
				if d := cmp.Diff(want, got); d != "" {
					t.Fatalf("event %d (-want +got)\n%s", i, d)
				}
			}
		})
	}
	if heard == 0 {
		t.Error("nothing was heard")
	}
}

// anonymous returns a message without its sequence number and process id.
func anonymous(b []byte) string {
	b = slices.Clone(b)
	clear(b[8:16])
	return hex.EncodeToString(b)
}
