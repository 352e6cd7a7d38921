package nlxfrm

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fuzzDecoder checks that an object that can be decoded and encoded decodes to the same
// object again.
func fuzzDecoder[T any](f *testing.F, types []int, parse func([]byte) (*T, error), encode func(*T) ([]byte, error)) {
	for _, r := range goldenRequests() {
		for _, typ := range types {
			if int(r.typ) == typ {
				f.Add(r.data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		one, err := parse(b)
		if err != nil {
			return
		}
		again, err := encode(one)
		if err != nil {
			return // such as different families
		}
		two, err := parse(again)
		if err != nil {
			t.Fatalf("the encoding of a decoded message is malformed: %v", err)
		}
		if d := cmp.Diff(one, two, same...); d != "" {
			t.Errorf("changed by encoding (-want +got):\n%s", d)
		}
	})
}

func FuzzState(f *testing.F) {
	fuzzDecoder(f, []int{msgNewSA, msgUpdSA}, parseState, func(s *State) ([]byte, error) {
		s.Stats, s.LastUsed = Stats{}, 0 // only read
		return s.encode()
	})
}

func FuzzPolicy(f *testing.F) {
	fuzzDecoder(f, []int{msgNewPolicy, msgUpdPolicy}, parsePolicy, func(p *Policy) ([]byte, error) {
		p.Current = Current{} // only read
		return p.encode()
	})
}

func FuzzAE(f *testing.F) {
	c := Current{1, 2, 3, 4}
	for _, a := range []*AE{{ID: ID{v4a, 1, 50}, Replay: &Replay{1, 2, 3}}, {ID: ID{v6a, 1, 51}, Current: &c, ReplayESN: NewReplayESN(100)}} {
		b, err := a.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	fuzzDecoder(f, nil, parseAE, func(a *AE) ([]byte, error) { a.IfID = 0; return a.encode() })
}
