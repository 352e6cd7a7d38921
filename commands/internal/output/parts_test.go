package output

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
)

// TestParts: in parts the lists have the same bytes as in one piece.
func TestParts(t *testing.T) {
	var sas []klips.SA
	var eroutes []klips.Eroute
	for i := range klips.SPI(7) {
		id := klips.SAID{Dst: netip.MustParseAddr("10.9.0.1"), SPI: 0x1000 + i, Proto: klips.ProtoESP}
		sas = append(sas, klips.SA{ID: id, Next: []klips.SAID{id}, Offload: "<e\"th0>"})
		eroutes = append(eroutes, klips.Eroute{ID: id, Selector: klips.Selector{Src: netip.MustParsePrefix("10.0.0.0/8"), Dst: netip.MustParsePrefix("::/0")}})
	}
	broken := errors.New("broken")
	for n := range len(sas) + 1 {
		for size := 1; size <= n+1; size++ {
			parts := func(err error) iter.Seq2[*klips.Snapshot, error] {
				return func(yield func(*klips.Snapshot, error) bool) {
					if n == 0 && err == nil {
						yield(&klips.Snapshot{}, nil)
					}
					for i := 0; i < n; i += size {
						end := min(i+size, n)
						if !yield(&klips.Snapshot{SAs: sas[i:end], Eroutes: eroutes[i:end]}, nil) {
							return
						}
					}
					if err != nil {
						yield(nil, err)
					}
				}
			}
			for _, stack := range []string{"user", ""} {
				all := &klips.Snapshot{SAs: sas[:n], Eroutes: eroutes[:n]}
				for _, l := range []struct {
					whole List
					parts func(io.Writer, string, iter.Seq2[*klips.Snapshot, error]) error
				}{{NewSPIList(stack, all), WriteSPIParts}, {NewErouteList(stack, all), WriteErouteParts}} {
					var want, got bytes.Buffer
					if err := Print(&cli.Env{Out: &want}, l.whole); err != nil {
						t.Fatal(err)
					}
					if err := l.parts(&got, stack, parts(nil)); err != nil || got.String() != want.String() {
						t.Fatalf("%d records in parts of %d: %v, written as\n%s, want\n%s", n, size, err, &got, &want)
					}
					got.Reset()
					if err := l.parts(&got, stack, parts(broken)); err != broken || bytes.HasSuffix(got.Bytes(), []byte("]\n}\n")) || n == 0 && got.Len() > 0 {
						t.Fatalf("%d records and an error: %v, written as\n%s", n, err, &got)
					}
				}
			}
		}
	}
}
