package testscripts

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// cmdHolds looks for a key in the memory of a host's daemon. The key must be there; with
// "!" it must disappear within the patience of lab.Await.
func cmdHolds(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: holds NAME KEY")
	}
	key, err := hex.DecodeString(strings.TrimPrefix(args[1], "0x"))
	ts.Check(err)
	dir, err := user.OpenDir(lab.RunDir(worldOf(ts).work, args[0]))
	ts.Check(err)
	defer dir.Close()
	pid, err := dir.Holder()
	ts.Check(err)
	n, err := copies(pid, key)
	ts.Check(err)
	switch {
	case !neg && n == 0:
		ts.Fatalf("the daemon of host %s has no copy of the key in its memory", args[0])
	case neg && lab.Await(func() bool {
		n, err = copies(pid, key)
		return n == 0 || err != nil
	}) != nil:
		ts.Fatalf("the daemon of host %s keeps %d copies of the key", args[0], n)
	}
	ts.Check(err)
}

// copies counts where some bytes are in the memory of a process (proc_pid_maps(5),
// proc_pid_mem(5)).
func copies(pid int, key []byte) (n int, err error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	const step = 1 << 20
	buf := make([]byte, step+len(key)-1)
	for s := bufio.NewScanner(maps); s.Scan(); {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(s.Text(), "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		for ; from < to; from += step {
			b := buf[:min(int64(len(buf)), to-from)]
			read, _ := mem.ReadAt(b, from) // parts of it may not be there any more
			n += bytes.Count(b[:read], key)
		}
	}
	return n, nil
}
