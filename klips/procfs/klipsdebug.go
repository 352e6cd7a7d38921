package procfs

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/klips-go/ipsec/klips"
)

// areas are the names of the debug areas, in the table with debug_ before them.
var areas = [klips.NumDebugAreas]string{
	klips.DebugTunnel: "tunnel", klips.DebugNetlink: "netlink", klips.DebugXform: "xform",
	klips.DebugEroute: "eroute", klips.DebugSPI: "spi", klips.DebugRadij: "radij", klips.DebugESP: "esp",
	klips.DebugAH: "ah", klips.DebugRcv: "rcv", klips.DebugPFKey: "pfkey", klips.DebugIPComp: "ipcomp",
	klips.DebugVerbose: "verbose",
}

// WriteKlipsdebug writes ipsec_klipsdebug: the nine areas that KLIPS shows;
// netlink, ipcomp and verbose are not among them.
func WriteKlipsdebug(w io.Writer, d klips.Debug) error {
	var b []byte
	for a, name := range areas {
		switch klips.DebugArea(a) {
		case klips.DebugNetlink, klips.DebugIPComp, klips.DebugVerbose:
			continue
		}
		b = fmt.Appendf(b, "debug_%s=%08x.\n", name, d[a])
	}
	_, err := w.Write(b)
	return err
}

// ParseKlipsdebug reads ipsec_klipsdebug. Areas that have no place in
// klips.Debug are skipped.
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
		for a := range areas {
			if string(name) == areas[a] {
				d[a] = uint32(v)
			}
		}
		return nil
	})
	return d, err
}
