package testscripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuestRights: on a machine that refuses nothing, the daemon gives up every right
// that it does not need. There is no user for it.
func TestGuestRights(t *testing.T) {
	need(t, "root", "tun", "esp", "xfrmi")
	ours, _ := interopHosts(t)
	status, err := ours.Output(exec.Command("ipsec", "setup", "status"))
	if err != nil {
		t.Fatalf("%v\n%s", err, status)
	}
	want := "capabilities: net_admin, net_raw; given up: swap, privileges, system calls, dumps, files\nnot given up: user: there is no user _ipsec\n"
	if !strings.Contains(string(status), want) || strings.Count(string(status), "not given up") != 1 {
		t.Errorf("status\n%s\nwant\n%s", status, want)
	}
	pid, err := os.ReadFile(filepath.Join(os.Getenv("IPSEC_RUNDIR"), "klipsd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	proc, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`CapPrm:\t0{12}3000`, `CapBnd:\t0{12}3000`, `NoNewPrivs:\t1`, `Seccomp:\t2`, `VmLck:\t +[1-9]\d+ kB`} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).Match(proc) {
			t.Errorf("no line %s in\n%s", line, proc)
		}
	}
}
