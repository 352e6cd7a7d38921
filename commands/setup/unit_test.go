package setup

import (
	"os"
	"path/filepath"
	"testing"
)

// The unit of another program with the same name is not that of this one.
func TestStartsDaemon(t *testing.T) {
	dir := t.TempDir()
	own, link, other := filepath.Join(dir, "ipsec"), filepath.Join(dir, "link"), filepath.Join(dir, "other")
	for _, name := range []string{own, other} {
		if err := os.WriteFile(name, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(own, link); err != nil {
		t.Fatal(err)
	}
	const rest = " ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }\n"
	for property, want := range map[string]bool{
		"{ path=" + own + " ; argv[]=" + own + " klipsd" + rest:           true,
		"{ path=" + link + " ; argv[]=" + link + " klipsd" + rest:         true,
		"{ path=" + other + " ; argv[]=" + other + " klipsd" + rest:       false,
		"{ path=" + own + " ; argv[]=" + own + " start" + rest:            false,
		"{ path=" + own + " ; argv[]=" + own + " klipsd --debug" + rest:   false,
		"{ path=" + dir + "/none ; argv[]=" + dir + "/none klipsd" + rest: false,
		"\n": false,
		"":   false,
	} {
		if got := startsDaemon(property, own); got != want {
			t.Errorf("startsDaemon(%q) = %v, want %v", property, got, want)
		}
	}
}
