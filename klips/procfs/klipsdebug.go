package procfs

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/klips-go/ipsec/klips"
)

// WriteKlipsdebug writes ipsec_klipsdebug: the nine areas in KLIPS' table, without
// netlink, ipcomp and verbose.
func WriteKlipsdebug(w io.Writer, d klips.Debug) error {
	var b []byte
	for i, mask := range d {
		switch a := klips.DebugArea(i); a {
		case klips.DebugNetlink, klips.DebugIPComp, klips.DebugVerbose:
		default:
			b = fmt.Appendf(b, "debug_%s=%08x.\n", a, mask)
		}
	}
	_, err := w.Write(b)
	return err
}

// ParseKlipsdebug parses ipsec_klipsdebug. It skips areas that klips.Debug does not
// have.
func ParseKlipsdebug(r io.Reader) (klips.Debug, error) {
	var d klips.Debug
	err := readLines(r, "ipsec_klipsdebug", func(line []byte) error {
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte("="))
		value, ok2 := bytes.CutSuffix(value, []byte("."))
		name, ok3 := bytes.CutPrefix(name, []byte("debug_"))
		if !ok || !ok2 || !ok3 {
			return errShort
		}
		v, err := strconv.ParseUint(string(value), 16, 32)
		if err != nil {
			return fmt.Errorf("%s is not a mask", quote(value))
		}
		for i := range d {
			if string(name) == klips.DebugArea(i).String() {
				d[i] = uint32(v)
			}
		}
		return nil
	})
	return d, err
}
