package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// load reads the file "/etc/ipsec.conf" of a set of files.
func load(files map[string]string, noInclude bool) (*File, error) {
	return Loader{
		NoInclude: noInclude,
		ReadFile: func(name string) ([]byte, error) {
			text, ok := files[name]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
			}
			return []byte(text), nil
		},
		Glob: func(pattern string) (names []string, err error) {
			for _, n := range slices.Sorted(maps.Keys(files)) {
				ok, err := path.Match(pattern, n)
				if err != nil {
					return nil, err
				}
				if ok {
					names = append(names, n)
				}
			}
			return names, nil
		},
	}.Load("/etc/ipsec.conf")
}

func anything(string) bool { return true }

// values returns the parameters of a connection as NAME=VALUE, sorted.
func values(f *File, names ...string) (string, error) {
	c, err := f.Conn(names, anything, nil)
	if err != nil {
		return "", err
	}
	var list []string
	for name := range c.params {
		if c.Has(name) {
			list = append(list, name+"="+c.Get(name).Value)
		}
	}
	slices.Sort(list)
	return strings.Join(list, " "), nil
}

func TestConn(t *testing.T) {
	tests := []struct{ name, text, conn, want string }{
		{"plain", "conn a\n\tleft=1\n  right = 2 \n", "a", "left=1 right=2"},
		{"no newline, CR LF", "conn a\r\n\tleft=1\r\n\tright=2", "a", "left=1 right=2"},
		{"comments", "# x\nconn a # y\n\tleft=1 # z\n \t# w\n\tright=2#3\n", "a", "left=1 right=2#3"},
		{"quotes", "conn a\n\tleftupdown=\"a  # b = c\" # d\n\tleft = \"1\"\n\tright=\"\"\n", "a", "left=1 leftupdown=a  # b = c"},
		{"empty value", "conn a\n\tleft=\n\tright=2\n", "a", "right=2"},
		{"blank line with blanks ends nothing", "conn a\n\tleft=1\n \t \n\tright=2\n", "a", "left=1 right=2"},
		{"base64", "conn a\n\tespenckey=0sQUJDREVGRw==\n", "a", "espenckey=0sQUJDREVGRw=="},
		{"default", "conn %default\n\tleft=1\n\tx=1\n\nconn %default\n\tx=2\n\nconn a\n\tright=2\nconn b\n\tleft=3", "a", "left=1 right=2 x=2"},
		{"default gives way", "conn %default\n\tleft=1\n\nconn b\n\tleft=3", "b", "left=3"},
		{"default gives way to also", "conn %default\n\tleft=1\n\nconn b\n\talso=c\nconn c\n\tleft=4", "b", "left=4"},
		{"also", "conn a\n\talso=b\n\tleft=1\n\nconn b\n\tright=2\n\talso=c\nconn c\n\tspi=3\n", "a", "left=1 right=2 spi=3"},
		{"also earlier in the file", "conn b\n\tright=2\nconn a\n\talso=b\n\tleft=1\n", "a", "left=1 right=2"},
		{"alsoflip", "conn a\n\talsoflip=b\n\tspi=1\n\nconn b\n\tleft=1\n\trightsubnet=2\n\tleftx=3\n", "a", "leftsubnet=2 right=1 rightx=3 spi=1"},
		{"alsoflip twice", "conn a\n\talsoflip=b\n\nconn b\n\tleft=1\n\talsoflip=c\n\nconn c\n\tleft=2\n", "a", "left=2 right=1"},
		{"extensions", "conn a\n\tx-left=1\n\tX_right=2\n\tleft=3\n", "a", "left=3"},
		{"two conns", "conn a\n\tleft=1\nconn b\n\tright=2\n", "a b", "left=1 right=2"},
		{"an authority", "ca x\n\tcacert=y\n\tleft=3\n\nconn a\n\tleft=1\n", "a", "left=1"},
		{"a list", "conn a\n\tleftsubnets={10.1.0.0/16 10.2.0.0/16}\n\tleft=1\n", "a", "left=1 leftsubnets={10.1.0.0/16 10.2.0.0/16}"},
		{"byte order mark", "\ufeffconn a\n\tleft=1\n", "a", "left=1"},
		{"comment at the margin in a section", "conn a\n\tleft=1\n#\tspi=3\n# x\n\tright=2\n", "a", "left=1 right=2"},
		{"Latin-1 in a comment", "conn a\n\tleft=1 # Verschl\xfcsselung\n\tright=2\n", "a", "left=1 right=2"},
		{"tabs", "conn\ta\t\n\tleft\t=\t1\t# x\n\t \tright=2\n", "a", "left=1 right=2"},
		{"a long comment", "# " + strings.Repeat("=", 100000) + "\nconn a\n\tleft=1\n", "a", "left=1"},
		{"a long value", "conn a\n\tleft=" + strings.Repeat("1", 70000) + "\n", "a", "left=" + strings.Repeat("1", 70000)},
		{"version and setup", "version 2.0\n\nconfig setup\n\tinterfaces=\"ipsec0=eth0 ipsec1=eth1\"\nconn a\n\tleft=1", "a", "left=1"},
	}
	for _, tt := range tests {
		f, err := load(map[string]string{"/etc/ipsec.conf": tt.text}, false)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got, err := values(f, strings.Fields(tt.conn)...)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestInclude(t *testing.T) {
	files := map[string]string{
		"/etc/ipsec.conf":      "include ipsec.d/*.conf\ninclude \"/var/other\"\ninclude none*\nconn a\n\talso=b\n",
		"/etc/ipsec.d/1.conf":  "conn %default\n\tleft=1\n",
		"/etc/ipsec.d/2.conf":  "conn b\n\tright=2\n\talso=c\ninclude sub/x",
		"/etc/ipsec.d/sub/x":   "conn c\n\tspi=3\n\talso=d",
		"/var/other":           "conn d\n\tesp=4\n",
		"/etc/ipsec.d/1.conf~": "nonsense",
	}
	f, err := load(files, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := values(f, "a"); err != nil || got != "esp=4 left=1 right=2 spi=3" {
		t.Errorf("a: %q, %v", got, err)
	}
	f, err = load(files, true)
	if err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := values(f, "a"); !errors.As(err, &e) || err.Error() != "/etc/ipsec.conf:5: conn a: no conn b" {
		t.Errorf("without includes: %v", err)
	}
}

func TestIncludeErrors(t *testing.T) {
	deep := map[string]string{"/etc/ipsec.conf": "include 1"}
	wide := map[string]string{"/etc/ipsec.conf": strings.Repeat("include e\n", 1001), "/etc/e": ""}
	for i := 1; i < 12; i++ {
		deep["/etc/"+fmt.Sprint(i)] = fmt.Sprintf("include %d", i+1)
	}
	for _, tt := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"/etc/ipsec.conf": "\ninclude a", "/etc/a": "include ./b", "/etc/b": "\n\ninclude ../etc/a"},
			"/etc/b:3: include: /etc/a is being read already; it would include itself"},
		{map[string]string{"/etc/ipsec.conf": "\ninclude *.conf"}, "/etc/ipsec.conf:2: include: /etc/ipsec.conf is being read already; it would include itself"},
		{map[string]string{"/etc/ipsec.conf": "include a"}, "/etc/ipsec.conf:1: include: open /etc/a: file does not exist"},
		{map[string]string{"/etc/ipsec.conf": "include a[*"}, "/etc/ipsec.conf:1: include: the pattern is wrong: syntax error in pattern"},
		{map[string]string{"/etc/ipsec.conf": "conn a\ninclude b\n\tleft=1", "/etc/b": "conn b\n\tright=1"},
			"/etc/ipsec.conf:3: a parameter outside of a section"},
		{map[string]string{}, "open /etc/ipsec.conf: file does not exist; name another file with --config"},
		{map[string]string{"/etc/ipsec.conf": strings.Repeat("# large\n", 1<<17) + "#"}, "/etc/ipsec.conf:1: the file is longer than 1048576 bytes; is it the right one?"},
		{map[string]string{"/etc/ipsec.conf": "conn a\n\tleft=\x00\n"}, "/etc/ipsec.conf:2: conn a: control character 0x00; is this a text file?"},
		{map[string]string{"/etc/ipsec.conf": "\xff\xfec\x00"}, "/etc/ipsec.conf:1: the file is in UTF-16; save it as plain text (UTF-8)"},
		{map[string]string{"/etc/ipsec.conf": "conn a\r\tleft=1\r"}, "/etc/ipsec.conf:1: a carriage return in the middle of the line; end lines with a line feed (LF or CR LF)"},
		{map[string]string{"/etc/ipsec.conf": "conn a\n\tx=\"a \\\n\tb\""}, `/etc/ipsec.conf:2: conn a: a \ at the end does not continue a line; write all of it on one line`},
		{map[string]string{"/etc/ipsec.conf": "conn a\n\tinclude b"}, "/etc/ipsec.conf:2: conn a: include must not be indented"},
		{map[string]string{"/etc/ipsec.conf": "conn a\n  conn b"}, "/etc/ipsec.conf:2: conn a: conn must not be indented"},
		{map[string]string{"/etc/ipsec.conf": "Conn a"}, "/etc/ipsec.conf:1: Conn begins no line; did you mean conn?"},
		{map[string]string{"/etc/ipsec.conf": "config setup\n\ta=1\n\ta=2"}, "/etc/ipsec.conf:3: config setup: a: it was given before, at /etc/ipsec.conf:2"},
		{map[string]string{"/etc/ipsec.conf": "include a\x1b[2J"}, "/etc/ipsec.conf:1: control character 0x1b; is this a text file?"},
		{map[string]string{"/etc/ipsec.conf": "include a\xc2\x9b2J"}, `/etc/ipsec.conf:1: include: open "/etc/a\u009b2J": file does not exist`},
		{deep, "/etc/9:1: include: more than 10 files that include each other"},
		{wide, "/etc/ipsec.conf:1000: include: more than 1000 files"},
	} {
		_, err := load(tt.files, false)
		if err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

// TestSystem reads real files.
func TestSystem(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ipsec.conf")
	if err := os.WriteFile(name, []byte("include *.inc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.inc"), []byte("conn a\n\tleft=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Loader{}.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := values(f, "a"); err != nil || got != "left=1" {
		t.Errorf("a: %q, %v", got, err)
	}
	if _, err := (Loader{}).Load(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestUnknown(t *testing.T) {
	f, err := load(map[string]string{"/etc/ipsec.conf": "conn a\n\tleft=1\n\talso=b\n\nconn b\n\trihgt=2\n\nconn c\n\tQUJDREVGR0g==\n"}, false)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"left", "right"}
	known := func(name string) bool { return slices.Contains(names, name) }
	for conn, want := range map[string]string{
		"a": "/etc/ipsec.conf:6: conn b: no parameter rihgt; did you mean right?",
		"c": "/etc/ipsec.conf:9: conn c: no such parameter; a value stands on the line of its parameter",
	} {
		if _, err := f.Conn([]string{conn}, known, names); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", conn, err, want)
		}
	}
}

// TestSetup reads the parameters of config setup.
func TestSetup(t *testing.T) {
	f, err := load(map[string]string{"/etc/ipsec.conf": "config setup\n\tinterfaces=\"ipsec0=eth0 ipsec1=eth1\"\n\tx-mine=1\n\tklipsdebug=\n\tb=1\n\ta=2\nconn a\n\tplutodebug=all"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if p := f.Setup("interfaces"); p.Value != "ipsec0=eth0 ipsec1=eth1" || p.Error("x").Error() != "/etc/ipsec.conf:2: config setup: interfaces: x" {
		t.Errorf("interfaces: %+v", p)
	}
	for _, name := range []string{"klipsdebug", "plutodebug"} {
		if p := f.Setup(name); p.Value != "" || p.Pos != (Pos{}) {
			t.Errorf("%s: %+v, want none", name, p)
		}
	}
	var got []string
	for _, p := range f.SetupUnknown(func(name string) bool { return name == "interfaces" || name == "klipsdebug" }) {
		got = append(got, p.Name)
	}
	if d := cmp.Diff([]string{"b", "a"}, got); d != "" {
		t.Errorf("unknown parameters (-want +got):\n%s", d)
	}
}

func TestFlip(t *testing.T) {
	got := map[string]string{}
	for _, n := range []string{"left", "rightsubnet", "type", "leftright", ""} {
		got[n] = Flip(n)
	}
	want := map[string]string{"left": "right", "rightsubnet": "leftsubnet", "type": "type", "leftright": "rightright", "": ""}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Flip (-want +got):\n%s", d)
	}
}

// FuzzLoad: nothing panics, errors are one line, and an error never contains a value.
func FuzzLoad(f *testing.F) {
	f.Add("version 2\nconn %default\n\tx-a=1\n\nconn a\n\tespenckey=\"0xSECRETSECRET\"\n\talso=b\nconn b\n\talsoflip=c\n\nconn c\n\tleft=1", "conn d\n")
	f.Add("include other\nconn a\n\t0xSECRETSECRET\n", "include other*\n\t0xSECRETSECRET=\n")
	f.Add("conn a\n\talso=a\n\tleft=0xSECRETSECRET \"\n", "")
	f.Fuzz(func(t *testing.T, text, other string) {
		check := func(err error) {
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
		}
		file, err := load(map[string]string{"/etc/ipsec.conf": text, "/etc/other": other}, false)
		check(err)
		if err != nil {
			return
		}
		for name := range file.conns {
			c, err := file.Conn([]string{name}, func(n string) bool { return len(n) < 8 }, []string{"left", "right"})
			check(err)
			if err == nil && c.Name != name {
				t.Errorf("conn %q is called %q", name, c.Name)
			}
		}
	})
}
