package conf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSearch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b]") // no pattern
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"two.conf", "one.conf", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := []string{filepath.Join(dir, "one.conf"), filepath.Join(dir, "two.conf")}
	for _, tt := range []struct {
		name string
		env  map[string]string
		want []string
	}{
		{"x.conf", map[string]string{"IPSEC_CONF": "y.conf", "IPSEC_CONFS": dir}, []string{"x.conf"}},
		{"", map[string]string{"IPSEC_CONF": "y.conf", "IPSEC_CONFS": dir}, []string{"y.conf"}},
		{"", map[string]string{"IPSEC_CONFS": dir}, in},
	} {
		got, err := Search(tt.name, func(name string) string { return tt.env[name] })
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q, %v: %q, %v, want %q", tt.name, tt.env, got, err, tt.want)
		}
	}
	if _, err := Search("", func(name string) string { return map[string]string{"IPSEC_CONFS": dir + "/none"}[name] }); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "IPSEC_CONFS: ") {
		t.Errorf("a folder that does not exist: %v", err)
	}
	if got, err := Search("", func(string) string { return "" }); err != nil || slices.ContainsFunc(got, func(name string) bool {
		return !strings.HasPrefix(name, "/etc/ipsec.")
	}) {
		t.Errorf("without variables: %q, %v", got, err)
	}
}

// A file that other users can change is refused, and so is one that it includes.
func TestReadTrusted(t *testing.T) {
	dir := t.TempDir()
	file, included := filepath.Join(dir, "ipsec.conf"), filepath.Join(dir, "included")
	for name, text := range map[string]string{file: "include included\n", included: "conn x\n\tleft=192.0.2.1\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := Loader{ReadFile: ReadTrusted}
	if _, err := l.Load(file); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, included} {
		for _, mode := range []os.FileMode{0o620, 0o602, 0o666} {
			if err := os.Chmod(name, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Load(file); err == nil || !strings.Contains(err.Error(), "other users can change it") {
				t.Errorf("%s with mode %o: %v", filepath.Base(name), mode, err)
			}
		}
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Load(file); err != nil {
			t.Errorf("%s with mode 644: %v", filepath.Base(name), err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 4711, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Load(file); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("another user's file: %v", err)
		}
	}
	if _, err := l.Load(filepath.Join(dir, "none")); !os.IsNotExist(err) && (err == nil || !strings.Contains(err.Error(), "no such file")) {
		t.Errorf("a file that does not exist: %v", err)
	}
}

// A command that names a file that other users can change is refused, wherever the name is.
func TestCheckCommand(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	t.Chdir(dir)
	for name, mode := range map[string]os.FileMode{"hook": 0o777, "my hook": 0o777, "script": 0o666, "own": 0o755, "folder/x": 0o755} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil { // apart from the umask
			t.Fatal(err)
		}
	}
	if err := os.Chmod("folder", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("folder/x", "link"); err != nil {
		t.Fatal(err)
	}
	t.Run("in a folder of others", func(t *testing.T) {
		for _, command := range []string{"folder/x", dir + "/folder/x up", "./link", "link"} {
			if err := CheckCommand(command); err == nil || !strings.Contains(err.Error(), "put another file in its place, because they can change the folder "+dir+"/folder (mode 0777)") {
				t.Errorf("CheckCommand(%q) = %v", command, err)
			}
		}
		if _, err := ReadTrusted("folder/x"); err == nil || !strings.Contains(err.Error(), "the folder "+dir+"/folder") {
			t.Errorf("ReadTrusted = %v", err)
		}
		if err := os.Chmod("folder", 0o777|os.ModeSticky); err != nil { // as /tmp
			t.Fatal(err)
		}
		defer os.Chmod("folder", 0o777)
		if err := CheckCommand("folder/x"); err != nil {
			t.Errorf("with a sticky bit: %v", err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for _, command := range []string{
			dir + "/hook", dir + "/hook up >log", "./hook", "hook", " hook\tup", "sh script", "sh " + dir + "/script up",
			"exec " + dir + "/hook", "exec hook", "env X=1 " + dir + "/hook", "X=1 hook", "X=" + dir + "/hook; $X",
			"/bin/sh -c '" + dir + "/hook up'", `sh -c "exec hook"`, ". ./script", "sh -x <script", "true&&hook", "(hook)", "{ hook; }",
			"case $PLUTO_VERB in up*) hook;; esac", "eval `hook`", "echo $(hook)", "'./my hook' up", `sh "` + dir + `/my hook"`,
			"if true\nthen hook\nfi",
		} {
			err := CheckCommand(command)
			if err == nil || !strings.Contains(err.Error(), ": other users can change it (mode 0") {
				t.Errorf("CheckCommand(%q) = %v", command, err)
			}
		}
	})
	t.Run("accepted", func(t *testing.T) {
		for _, command := range []string{
			"", "nothing here", "/none/hook", "own", "./own up", "sh own", dir + "/own", "echo up >>own", "cd folder", "cd " + dir,
			"echo >/dev/null", "echo $hook", "echo hooks", `sh -c ""`,
		} {
			if err := CheckCommand(command); err != nil {
				t.Errorf("CheckCommand(%q) = %v", command, err)
			}
		}
	})
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(dir, "own"), 4711, 0); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"own", "sh ./own"} {
			if err := CheckCommand(command); err == nil || !strings.Contains(err.Error(), "own: it belongs to another user") {
				t.Errorf("CheckCommand(%q), of another user: %v", command, err)
			}
		}
	}
}
