package esp

import (
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"github.com/klips-go/ipsec/klips/internal/wipe/wipetest"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
)

// The registers of the processor have neither a key nor what a cipher has computed of it,
// when an SA has been set up and after a packet.
func TestRegisters(t *testing.T) {
	for name, c := range configs() {
		s, o := pair(t, c)
		secret := func(x *suite) []byte {
			all := slices.Concat(c.EncKey, c.AuthKey)
			if x.aead != nil { // a pointer to a value without pointers, see TestObjects of package wipe
				v := reflect.ValueOf(x.aead)
				all = append(all, unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size())...)
			}
			return all
		}
		sealer, opener := secret(s.suite), secret(o.suite)
		b := pkttest.Buffer(pkttest.UDP(4, 400))

		var err error
		if s, err = NewSealer(c); err != nil {
			t.Fatal(err)
		}
		wipetest.Registers(t, name+", Sealer made", sealer)
		if o, err = NewOpener(c); err != nil {
			t.Fatal(err)
		}
		wipetest.Registers(t, name+", Opener made", opener)

		if err := seal(s, b, 1); err != nil {
			t.Fatal(err)
		}
		wipetest.Registers(t, name+", sealed", sealer)

		h := pkttest.Parse(t, b)
		if _, err := open(o, b, &h); err != nil {
			t.Fatal(err)
		}
		wipetest.Registers(t, name+", opened", opener)
	}
}
