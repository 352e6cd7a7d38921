package buildinfo

import "testing"

func TestVersion(t *testing.T) {
	if Version() == "" {
		t.Error("Version is empty")
	}
	override = "4.5.6"
	defer func() { override = "" }()
	if got := Version(); got != "4.5.6" {
		t.Errorf("Version = %q, want what the linker set", got)
	}
}
