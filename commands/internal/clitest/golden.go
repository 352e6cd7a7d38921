package clitest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/manpages"
)

// GoldenJSON compares the output of "ipsec APPLET --json" with the page ipsec_json(5)
// and with the file testdata/NAME.json of the test. UPDATE=1 in the environment
// rewrites the file.
func GoldenJSON(t *testing.T, applet, name, got string) {
	t.Helper()
	if _, err := manpages.ReadJSON(applet, []byte(got)); err != nil {
		t.Errorf("%s is not as ipsec_json(5) describes ipsec %s: %v\n%s", name, applet, err, got)
	}
	Golden(t, name+".json", got)
}

// Golden compares a listing with the file testdata/NAME of the test. UPDATE=1 in the
// environment rewrites the file.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got, UPDATE=1 rewrites it)\n%s", file, d)
	}
}
