package procfs

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klips-go/ipsec/klips"
)

// netDevFields is the number of fields of a device in /proc/net/dev: eight for received
// packets, eight for sent ones.
const netDevFields = 16

// ParseNetDev parses /proc/net/dev, the counters of all network devices by name. It is
// a table of the Linux kernel; KLIPS has its packet counters only there. The two
// heading lines are skipped.
func ParseNetDev(r io.Reader) (map[string]klips.DeviceStats, error) {
	all := map[string]klips.DeviceStats{}
	err := readLines(r, "dev", func(line []byte) error {
		if bytes.IndexByte(line, '|') >= 0 {
			return nil // the heading
		}
		name, rest, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return errShort
		}
		var v [netDevFields]uint64
		fields := bytes.Fields(rest)
		if len(fields) < len(v) {
			return errShort
		}
		for i := range v {
			var err error
			if v[i], err = number(fields[i]); err != nil {
				return fmt.Errorf("field %d: %w", i+1, err)
			}
		}
		all[string(bytes.TrimSpace(name))] = klips.DeviceStats{
			RxBytes: v[0], RxPackets: v[1], RxErrors: v[2], RxDropped: v[3],
			TxBytes: v[8], TxPackets: v[9], TxErrors: v[10], TxDropped: v[11],
		}
		return nil
	})
	return all, err
}
