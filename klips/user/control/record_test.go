package control

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// fill sets the fields of v, whatever their number, to zero or to a random value.
func fill(t *testing.T, r *rand.Rand, v reflect.Value) {
	if r.IntN(3) == 0 {
		return
	}
	addr := func() netip.Addr {
		var b [16]byte
		for i := range b {
			b[i] = byte(r.IntN(3)) * byte(r.Uint32())
		}
		switch r.IntN(4) {
		case 0:
			return netip.AddrFrom16(b).WithZone(`e"th0`)
		case 1:
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte(b[:]))
	}
	switch p := v.Addr().Interface().(type) {
	case *netip.Addr:
		*p = addr()
		return
	case *netip.Prefix:
		*p = netip.PrefixFrom(addr(), r.IntN(40))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, r, v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, r, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(4), 4))
		for i := range v.Len() {
			fill(t, r, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, k := range []string{"bad-icv", "<&>", "no-sa"}[:r.IntN(4)] {
			v.SetMapIndex(reflect.ValueOf(k), reflect.ValueOf(r.Uint64()))
		}
	case reflect.String:
		v.SetString([]string{"eth0", "a\"b\\c", "\x01<é\xff>\u2028"}[r.IntN(3)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64() >> r.IntN(64)))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> r.IntN(64))
	default:
		t.Fatalf("no value for %v", v.Type())
	}
}

// TestAppendRecord compares the records with those of encoding/json.
func TestAppendRecord(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	check := func(got []byte, err error, v any) {
		want, werr := json.Marshal(v)
		if werr != nil {
			t.Fatal(werr)
		}
		if err != nil || string(got) != string(want)+"\n" {
			t.Fatalf("%+v, %v: written as\n%s, want\n%s", v, err, got, want)
		}
	}
	for range 20_000 {
		var sa klips.SA
		fill(t, r, reflect.ValueOf(&sa).Elem())
		b, err := appendRecord(nil, &sa)
		check(b, err, sa)
		var e klips.Eroute
		fill(t, r, reflect.ValueOf(&e).Elem())
		b, err = appendRecord(nil, &e)
		check(b, err, e)
	}
}

// TestListingLeavesNoGarbage: a listing of many records allocates no more than one of few.
func TestListingLeavesNoGarbage(t *testing.T) {
	ten := netip.MustParsePrefix("10.0.0.0/8")
	sa := klips.SA{ID: said(50, 0x1000, gw), Src: gw, IV: make([]byte, 16), Next: []klips.SAID{said(51, 0x1000, gw)}, SameKey: []klips.SAID{said(50, 0x1001, gw)}}
	eroute := klips.Eroute{Selector: klips.Selector{Src: ten, Dst: ten, Proto: 6, DstPort: 80}, ID: sa.ID}
	send := func(*pfkey.Message) error { return nil }
	for name, list := range map[string]func(n int) error{
		"SAs": func(n int) error {
			return SendList(ListTable(TableSAs), slices.Values(slices.Repeat([]klips.SA{sa}, n)), send)
		},
		"eroutes": func(n int) error {
			return SendList(ListTable(TableEroutes), slices.Values(slices.Repeat([]klips.Eroute{eroute}, n)), send)
		},
	} {
		allocs := func(n int) float64 {
			return testing.AllocsPerRun(5, func() {
				if err := list(n); err != nil {
					t.Error(err)
				}
			})
		}
		// Buffers grow up to the length of a message.
		if few, many := allocs(1000), allocs(10_000); many > few+5 {
			t.Errorf("%s: %v allocations for 10000 records, %v for 1000", name, many, few)
		}
	}
}
