package xfrm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// statPath has the kernel's counters for the calling thread's network namespace. It
// does not exist without CONFIG_XFRM_STATISTICS.
const statPath = "/proc/thread-self/net/xfrm_stat"

// statReasons maps the kernel's counters (Documentation/networking/xfrm_proc.rst) to
// the reasons of all stacks. Other counters count as failed.
var statReasons = [...]struct {
	counter string
	reason  drop.Reason
}{
	{"XfrmInHdrError", drop.BadPacket},
	{"XfrmInNoStates", drop.NoSA},
	{"XfrmInStateProtoError", drop.BadICV}, // or an invalid header: the kernel has one counter for both
	{"XfrmInStateModeError", drop.NoTunnel},
	{"XfrmInStateSeqError", drop.Replayed}, // or too old
	{"XfrmInStateExpired", drop.Expired},
	{"XfrmInStateMismatch", drop.WrongUDP},
	{"XfrmInStateInvalid", drop.NotUsable},
	{"XfrmInStateDirError", drop.NotUsable},
	{"XfrmInTmplMismatch", drop.WrongOrder}, // the SAs are not those of the policy
	{"XfrmInNoPols", drop.NoPolicy},
	{"XfrmInPolBlock", drop.Policy},
	{"XfrmFwdHdrError", drop.BadPacket},
	{"XfrmAcquireError", drop.NotUsable},
	{"XfrmOutNoStates", drop.NoSA},
	{"XfrmOutStateSeqError", drop.NoNumbers},
	{"XfrmOutStateExpired", drop.Expired},
	{"XfrmOutStateInvalid", drop.NotUsable},
	{"XfrmOutStateDirError", drop.NotUsable},
	{"XfrmOutPolBlock", drop.ErouteDrop},
	{"XfrmOutNoQueueSpace", drop.HoldFull},
}

var (
	_ serial.DropCounter   = (*Stack)(nil)
	_ serial.KernelCounter = (*Stack)(nil)
)

// Drops returns the packets that the kernel has dropped in this network namespace, also
// those of SAs and policies of other programs.
func (s *Stack) Drops(ctx context.Context) (c drop.Counts, err error) {
	l, err := s.KernelDrops(ctx)
	return byReason(l), err
}

// byReason returns the packets of the kernel's counters by reason; nil if there are none.
func byReason(l []klips.KernelDrops) (c drop.Counts) {
	for _, k := range l {
		if c == nil {
			c = drop.Counts{}
		}
		c[k.Reason] += k.Packets
	}
	return c
}

// KernelDrops returns the same packets by the kernel's counters.
func (s *Stack) KernelDrops(context.Context) ([]klips.KernelDrops, error) {
	b, err := os.ReadFile(statPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var l []klips.KernelDrops
	if err == nil {
		l, err = parseStat(b)
	}
	if err != nil {
		return nil, &klips.OpError{Op: "list", Object: statPath, Err: err}
	}
	return l, nil
}

// parseStat parses lines of a counter's name and its value.
func parseStat(b []byte) (l []klips.KernelDrops, err error) {
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) != 2 {
			return nil, fmt.Errorf("the line %q has not two words", lines.Text())
		}
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the line %q has no number", lines.Text())
		}
		if n == 0 {
			continue
		}
		r := drop.Failed
		for _, s := range statReasons {
			if s.counter == f[0] {
				r = s.reason
			}
		}
		l = append(l, klips.KernelDrops{Counter: f[0], Reason: r.String(), Packets: n})
	}
	return l, nil
}

// stateDrops returns the drop counts of one state; nil if there are none.
func stateDrops(s nlxfrm.Stats) (c drop.Counts) {
	if s == (nlxfrm.Stats{}) {
		return nil
	}
	c = drop.Counts{}
	c.Add(drop.Replayed, uint64(s.Replayed))
	c.Add(drop.TooOld, uint64(s.OutOfWindow))
	c.Add(drop.BadICV, uint64(s.IntegrityFailed))
	return c
}
