package qemu

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/testscripts/skip"
)

func TestMain(m *testing.M) {
	Main()
	if os.Getenv("IN_GUEST") != "" {
		text, _ := os.ReadFile("/proc/modules")
		os.Stdout.Write(text)
		os.Exit(7)
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	if err := Available(""); err != nil {
		skip.Without(t, skip.QEMU, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	self := filepath.Join(t.TempDir(), "self")
	build := exec.Command("go", "test", "-c", "-o", self, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var out bytes.Buffer
	start := time.Now()
	status, err := Run(ctx, Job{Program: self, Env: []string{"IN_GUEST=1"}, Modules: []string{"xfrm_interface", "esp4"}}, &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("boot to power-off: %v", time.Since(start))
	if status != 7 {
		t.Errorf("status = %d, want 7", status)
	}
	for _, want := range []string{"esp4 ", "xfrm_interface "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the guest's output:\n%s", want, &out)
		}
	}
}
