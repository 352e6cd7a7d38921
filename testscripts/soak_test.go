package testscripts

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestSoak strains the embedded stack for seconds; "make soak" does it for
// longer.
func TestSoak(t *testing.T) {
	need(t, "root", "tun")
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/ipsec", "./testscripts/soak")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.Command(filepath.Join(dir, "soak"), "-ipsec", filepath.Join(dir, "ipsec"), "-time", "8s").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
