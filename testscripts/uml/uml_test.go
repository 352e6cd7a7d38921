package uml

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/testscripts/skip"
)

func TestMain(m *testing.M) {
	Main()
	if os.Getenv("IN_GUEST") != "" {
		out, err := exec.Command("sh", "-c", "uname -r; cat /proc/modules; ls /dev/net; touch /etc/x").CombinedOutput()
		os.Stdout.Write(out)
		if err == nil {
			os.Exit(99) // the root file system should be read-only
		}
		os.Exit(7)
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	if err := Available(); err != nil {
		skip.Without(t, skip.UML, err)
	}
	if os.Geteuid() != 0 {
		skip.Without(t, skip.UML, "not root: init would not be readable or mounts fail")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	var out bytes.Buffer
	start := time.Now()
	status, err := Run(ctx, Job{Env: []string{"IN_GUEST=1"}, Dir: "/", Modules: []string{"esp4", "tun"}}, &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("boot to power-off: %v", time.Since(start))
	if status != 7 {
		t.Errorf("status = %d, want 7", status)
	}
	for _, want := range []string{"esp4 ", "xfrm_algo ", "\ntun\n", "Read-only file system"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the guest's output:\n%s", want, &out)
		}
	}
}
