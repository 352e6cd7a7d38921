package nlxfrm

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listed changes an object to the kernel's form in listings, without times and indices.
func listed(s *State) {
	if s.Flags&FlagAFUnspec == 0 && !s.Selector.Dst.IsValid() {
		any := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		s.Selector = Selector{Family: FamilyIPv4, Dst: any, Src: any}
	}
	if s.Replay == nil && s.ReplayESN == nil {
		s.Replay = new(Replay)
	}
}

// TestRecordedDump decodes the listing of a kernel after ip(8) had made the objects of
// the recorded requests.
func TestRecordedDump(t *testing.T) {
	skipUnlessRecorded(t)
	text, err := os.ReadFile("testdata/dump.txt")
	if err != nil {
		t.Fatal(err)
	}
	states, policies := map[uint32]*State{}, map[uint32]*Policy{}
	for _, line := range strings.Fields(strings.ReplaceAll(string(text), "0x10 ", "state:")) {
		if s, ok := strings.CutPrefix(line, "state:"); ok {
			o, err := parseState(hexKey(s))
			if err != nil {
				t.Fatal(err)
			}
			if o.Current.AddTime == 0 {
				t.Errorf("%v: no time", o.ID)
			}
			o.Current.AddTime = 0
			states[o.SPI] = o
		} else if line != "0x13" {
			o, err := parsePolicy(hexKey(line))
			if err != nil {
				t.Fatal(err)
			}
			if o.Index&7 != uint32(o.Dir) || o.Current.AddTime == 0 {
				t.Errorf("%v: index %d, time %d", o.Key(), o.Index, o.Current.AddTime)
			}
			o.Index, o.Current.AddTime = 0, 0
			policies[uint32(o.Dir)] = o
		}
	}
	// The kernel's own state: without it a compressed tunnel refuses packets that came
	// uncompressed.
	helper := states[be.Uint32(v4a.AsSlice())]
	if helper == nil || helper.Proto != 4 || helper.Mode != ModeTunnel || helper.Dst != v4b || helper.Src != v4a {
		t.Errorf("helper %+v", helper)
	}
	count := 1
	for _, r := range goldenRequests() {
		switch r.typ {
		case msgNewSA:
			want, err := parseState(r.data)
			if err != nil {
				t.Fatal(err)
			}
			got := states[want.SPI]
			if got == nil {
				// The kernel refuses the key or the device, or does not know the direction.
				if want.SPI != 0x105 && want.SPI != 0x107 && want.SADir == SABoth {
					t.Errorf("%v is not listed", want.ID)
				}
				continue
			}
			count++
			listed(want)
			if d := cmp.Diff(want, got, same...); d != "" {
				t.Errorf("%v (-want +got):\n%s", want.ID, d)
			}
		case msgNewPolicy:
			want, err := parsePolicy(r.data)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, policies[uint32(want.Dir)], same...); d != "" {
				t.Errorf("%v (-want +got):\n%s", want.Key(), d)
			}
		}
	}
	if len(states) != count || len(policies) != 3 {
		t.Errorf("%d states and %d policies, want %d and 3", len(states), len(policies), count)
	}
}
