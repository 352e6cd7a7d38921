package icv

import (
	"slices"
	"testing"
	"unsafe"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/internal/wipe/wipetest"
)

// The registers of the processor have neither a key nor a keyed state of a hash, when a
// MAC has been made and after a message.
func TestRegisters(t *testing.T) {
	for _, a := range []alg.Auth{alg.MD5, alg.SHA1, alg.SHA256, alg.SHA384, alg.SHA512} {
		info, _ := a.Info()
		key := make([]byte, info.KeyBits[0]/8)
		for i := range key { // copying a constant would leave it in registers
			key[i] = byte(5*i + 3)
		}
		m, err := New(a, key)
		if err != nil {
			t.Fatal(err)
		}
		states := func() (b []byte) {
			if m.pair != nil {
				b = slices.Concat(unsafe.Slice((*byte)(unsafe.Pointer(&m.pair.inner)), unsafe.Sizeof(m.pair.inner)),
					unsafe.Slice((*byte)(unsafe.Pointer(&m.pair.outer)), unsafe.Sizeof(m.pair.outer)))
			}
			return append(b, key...)
		}
		secret := states()
		if m, err = New(a, key); err != nil {
			t.Fatal(err)
		}
		wipetest.Registers(t, info.Listing+", made", secret)
		for n := range 130 {
			data, sum := make([]byte, n), make([]byte, m.Size())
			m.Sums([]Message{{Data: data, ICV: sum}})
			wipetest.Registers(t, info.Listing+", used", secret)
		}
	}
}
