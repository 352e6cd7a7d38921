package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file with keys is counted once, and comments are those of ipsec.conf.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a#b.key": "0x00",
		"x.conf":  "conn a\n\tleftespenckey=@a#b.key\nconn b\n\tleftespenckey=@a#b.key # the same\n\t#leftespauthkey=@none.key\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := run(t, machine(t, nil), nil, map[string]string{"IPSEC_CONFS": dir})
	if want := "only their owners can change the files of connections (1) and read the files of keys that these name (1)\n"; !strings.Contains(r.Out, want) {
		t.Errorf("%s\nwant %s", r.Out, want)
	}
}
