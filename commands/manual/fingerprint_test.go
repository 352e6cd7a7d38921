package manual

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
)

// TestFingerprints: the lines name the ends as the file does, so they are the same on both
// hosts, and no line or error contains a key.
func TestFingerprints(t *testing.T) {
	dir := t.TempDir()
	const ends = "\tleft=192.0.2.1\n\tright=192.0.2.2\n\tspi=0x200\n"
	for name, text := range map[string]string{
		"net.key": masterText, "seen.key": masterText, "odd.key": "0x123\n",
		"a.conf": "conn net\n" + ends + "\tesp=aes128-sha1\n\tmasterkey=@net.key\n" +
			"conn other\n" + ends + "\tesp=aes128-sha1\n\tmasterkey=" + masterText +
			"conn by-hand\n" + ends + "\tesp=aes128-sha1\n\tah=hmac-sha2-256\n\tleftespenckey=@net.key\n\trightespenckey=@seen.key\n\tespauthkey=0xff\n\tahkey=0x00\n" +
			"conn odd\n" + ends + "\tesp=aes128-sha1\n\tmasterkey=@odd.key\n" +
			"conn seen\n" + ends + "\tesp=aes128-sha1\n\tmasterkey=@seen.key\n" +
			"conn shut\n\ttype=drop\n\tleft=192.0.2.1\n\tright=192.0.2.2\n" +
			"conn keyed\n\tleft=192.0.2.1\n\tright=192.0.2.2\n\tesp=aes128-sha1\n",
	} {
		mode := os.FileMode(0o600)
		if name == "seen.key" {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, tt := range []struct {
		args       string
		status     int
		out, notes string
	}{
		{"net", 0, "net masterkey: 7d6a 6311 f863 a810 8c77 cd2a 519c c7e6\n", ""},
		{"other", 0, "other masterkey: 1a36 68d5 3ed2 08aa b4c6 4088 b1eb d553\n", ""},
		{"@net.key", 0, "a0b9 37a9 d2b8 e41b 0f8e 9f8b 9acb ce3a\n", ""},
		{"@seen.key", 0, "a0b9 37a9 d2b8 e41b 0f8e 9f8b 9acb ce3a\n", "note: the key file seen.key can be read by others"},
		{"by-hand", 0, `by-hand leftespenckey: 6ec9 4493 797d 6556 3858 34d0 0ecc 4082
by-hand leftespauthkey: 0597 6656 1cef 9706 7ec2 ca72 915c 7acb
by-hand leftahkey: db95 6abf b4d9 345f 2607 0a2e 2acf c619
by-hand rightespenckey: 6ec9 4493 797d 6556 3858 34d0 0ecc 4082
by-hand rightespauthkey: 0597 6656 1cef 9706 7ec2 ca72 915c 7acb
by-hand rightahkey: db95 6abf b4d9 345f 2607 0a2e 2acf c619
`, "note: the key file " + dir + "/seen.key can be read by others"},
		{"odd", 1, "", dir + "/a.conf:23: conn odd: masterkey: the key in " + dir + "/odd.key: odd number of hex digits"},
		{"seen", 1, "", dir + "/a.conf:29: conn seen: masterkey: the key file " + dir + "/seen.key can be read by others"},
		{"shut", 1, "", dir + "/a.conf:35: conn shut: a conn of type drop has no keys"},
		{"keyed", 1, "", dir + "/a.conf:39: conn keyed: neither spi nor spibase is given"},
		{"net.key", 1, "", "no conn net.key in " + dir + "/a.conf; for the key in the file of this name write @net.key"},
		{"nett", 1, "", "no conn nett in " + dir + "/a.conf; did you mean net?"},
		{"@none.key", 1, "", "none.key: no such file or directory"},
		{"", 2, "", "what to check is missing: give the name of a connection, or @ and the name of a key file"},
		{"./net.key", 2, "", "connection: ./net.key is no name"},
		{"0xfeedfacefeedface", 2, "", "connection: (18 characters, not shown: it may be a key) is no name"},
		{"@", 2, "", "@: there is no file name after @"},
		{"--config a.conf @net.key", 2, "", "--config does not go with @FILE; it is for connections"},
		{"net other", 2, "", "unexpected argument number 2 (5 characters, not shown: it may be part of a key); one connection or file at a time"},
	} {
		r := clitest.Run(Fingerprint(), clitest.World{Environ: map[string]string{"IPSEC_CONFS": dir}}, strings.Fields(tt.args)...)
		if r.Status != tt.status || r.Out != tt.out || r.Opened || strings.Count(r.Err, "\n") > 1 ||
			(tt.notes == "") != (r.Err == "") || !strings.HasPrefix(r.Err, strings.TrimSpace("ipsec fingerprint: "+tt.notes)) && r.Err != "" {
			t.Errorf("fingerprint %s: status %d, %q, %q, want %d, %q, %q", tt.args, r.Status, r.Out, r.Err, tt.status, tt.out, tt.notes)
		}
	}
}
