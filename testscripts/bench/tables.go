package main

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// tables measures the tables without packets on the wire.
func tables() error {
	if err := lookups(); err != nil {
		return err
	}
	return sas()
}

func addr(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// sas measures the time to make SAs and the memory of one SA.
func sas() error {
	const n = 200_000
	db := sadb.New()
	key := make([]byte, 20)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	for i := range uint32(n) {
		binary.BigEndian.PutUint32(key, i) // each SA sends with its own key
		_, err := db.Add(&klips.SASpec{
			ID:  klips.SAID{Dst: addr(0x0a000000 + i), SPI: klips.SPI(0x100 + i), Proto: klips.ProtoESP},
			Src: addr(0xc0000201), Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: key, Window: 64,
		}, klips.Outbound, 1, func(*sadb.SA) error { return nil })
		if err != nil {
			return err
		}
	}
	d := time.Since(begin)
	runtime.GC()
	runtime.ReadMemStats(&after)
	printRow("SAs made (in the engine)", "%.0f k/s", n/d.Seconds()/1e3)
	note("SAs made (in the engine)", n/d.Seconds(), "1/s")
	printRow("memory of an SA", "%d bytes", (after.HeapAlloc-before.HeapAlloc)/n)
	note("memory of an SA", float64((after.HeapAlloc-before.HeapAlloc)/n), "bytes")
	runtime.KeepAlive(db)
	return nil
}
