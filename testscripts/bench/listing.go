package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/testscripts/bed"
)

// listedSAs is how many SAs a daemon has while they are listed.
const listedSAs = 100_000

// listing measures how much the memory of a daemon with many SAs grows while they are
// listed, and how much memory the command needs.
func listing(ipsec string) error {
	b, err := bed.Open(ipsec, "list")
	if err != nil {
		return err
	}
	defer b.Close()
	if err := addSAs(b, listedSAs); err != nil {
		return err
	}
	pid, err := b.PID(0)
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"spi"}, {"spi", "--json"}} {
		// 5 sets the peak to the present memory (proc_pid_clear_refs(5)).
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return err
		}
		before, err := memory(pid, "VmRSS")
		if err != nil {
			return err
		}
		cmd := exec.Command(ipsec, args...)
		cmd.Env = append(os.Environ(), "IPSEC_RUNDIR="+b.Rundir(0))
		client := &watched{cmd: cmd}
		cmd.Stdout = client
		if err := b.Hosts[0].Start(cmd); err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil {
			return err
		}
		peak, err := memory(pid, "VmHWM")
		if err != nil {
			return err
		}
		name := fmt.Sprintf("ipsec %s of %d SAs", strings.Join(args, " "), listedSAs)
		printRow(name, "daemon %.0f MiB, and %.1f more at the peak; command %.0f MiB", before, peak-before, client.peak)
		note(name+": growth of the daemon", peak-before, "MiB")
		note(name+": memory of the command", client.peak, "MiB")
	}
	return nil
}

// A watched is the standard output of a command, and reads the peak of its memory while the
// command writes. The kernel's own figure after the end (getrusage(2)) is useless here: it
// includes the memory of the process that has started the command, before it was replaced.
type watched struct {
	cmd  *exec.Cmd
	peak float64 // MiB
}

func (w *watched) Write(p []byte) (int, error) {
	// The command may have ended after its last write.
	if m, err := memory(w.cmd.Process.Pid, "VmHWM"); err == nil {
		w.peak = m
	}
	return len(p), nil
}

// addSAs makes n SAs on the first host, each with keys of its own.
func addSAs(b *bed.Bed, n int) error {
	c, err := b.Dial(0)
	if err != nil {
		return err
	}
	defer c.Close()
	const batch = 1000
	for first := 0; first < n; first += batch {
		var changes []klips.Change
		for i := first; i < min(first+batch, n); i++ {
			key := binary.BigEndian.AppendUint32(make([]byte, 12), uint32(i))
			changes = append(changes, klips.AddSA{SASpec: &klips.SASpec{
				ID:        klips.SAID{Dst: addr(0x0a090000 + uint32(i%200)), SPI: klips.SPI(0x1000 + i), Proto: klips.ProtoESP},
				Src:       addr(0xc0000201),
				Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: key, AuthKey: append(make([]byte, 4), key...), Window: 64,
			}})
		}
		if _, err := c.Apply(context.Background(), changes...); err != nil {
			return err
		}
	}
	return nil
}

// memory returns a line of /proc/PID/status in MiB.
func memory(pid int, line string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for text := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(text, line+":"); ok {
			var kib float64
			_, err := fmt.Sscan(v, &kib)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", line, pid)
}
