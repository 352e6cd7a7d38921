package procfs

import (
	"bytes"
	"io"
	"strconv"

	"github.com/klips-go/ipsec/klips"
)

// detached replaces the name of the physical device if there is none.
const detached = "NULL"

// WriteTncfg writes ipsec_tncfg: a line for each virtual device, in the order
// given.
func WriteTncfg(w io.Writer, devices []klips.Device) error {
	return writeLines(w, devices, func(b []byte, d *klips.Device) []byte {
		b = append(b, d.Name...)
		b = append(b, " -> "...)
		if d.Physical == "" {
			b = append(b, detached...)
		} else {
			b = append(b, d.Physical...)
		}
		b = append(b, " mtu="...)
		b = strconv.AppendInt(b, int64(d.MTU), 10)
		b = append(b, '(')
		b = strconv.AppendInt(b, int64(d.AttMTU), 10)
		b = append(b, ") -> "...)
		b = strconv.AppendInt(b, int64(d.PhysMTU), 10)
		return append(b, '\n')
	})
}

// ParseTncfg parses ipsec_tncfg. The table has no packet counters. KLIPS has not set up
// an ipsec device whose line has only its name.
func ParseTncfg(r io.Reader) ([]klips.Device, error) {
	return records(r, "ipsec_tncfg", parseDevice)
}

func parseDevice(line []byte) (klips.Device, error) {
	f := bytes.Fields(line)
	d := klips.Device{Name: string(f[0])}
	if len(f) == 1 && bytes.HasPrefix(f[0], []byte("ipsec")) {
		return d, nil
	}
	if len(f) < 6 || string(f[1]) != "->" || string(f[4]) != "->" {
		return d, errShort
	}
	if string(f[2]) != detached {
		d.Physical = string(f[2])
	}
	mtu, ok := bytes.CutPrefix(f[3], []byte("mtu="))
	mtu, attached, ok2 := bytes.Cut(mtu, []byte("("))
	attached, ok3 := bytes.CutSuffix(attached, []byte(")"))
	if !ok || !ok2 || !ok3 {
		return d, errShort
	}
	var err error
	if d.MTU, err = integer(mtu); err != nil {
		return d, err
	}
	if d.AttMTU, err = integer(attached); err != nil {
		return d, err
	}
	d.PhysMTU, err = integer(f[5])
	return d, err
}
