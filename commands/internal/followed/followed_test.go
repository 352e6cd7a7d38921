package followed

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips/user"
)

func open(t *testing.T, rundir string) *Dir {
	t.Helper()
	d, err := Make(rundir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func connection(names ...string) Connection {
	return Connection{
		Conns: names, Config: "/etc/ipsec.conf", Interface: "ipsec0",
		Route: Route{Local: netip.MustParseAddr("192.0.2.1"), Gateway: netip.MustParseAddr("192.0.2.254"), Device: "eth0"},
	}
}

// TestPut: a stored connection is listed once, until it is removed.
func TestPut(t *testing.T) {
	rundir := filepath.Join(t.TempDir(), "run")
	d := open(t, rundir)
	if Any(rundir) {
		t.Error("there are some at the beginning")
	}
	long := make([]string, 10)
	for i := range long {
		long[i] = strings.Repeat("x", 63) + string(rune('a'+i))
	}
	a, b, c := connection("a"), connection("a", "b"), connection(long...)
	for _, put := range []Connection{a, b, c} {
		if err := d.Put(put); err != nil {
			t.Fatal(err)
		}
	}
	a.Up, a.Route.Gateway = true, netip.Addr{}
	if err := d.Put(a); err != nil {
		t.Fatal(err)
	}
	got := map[string]Connection{}
	list, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		got[l.Name()] = l
	}
	if want := map[string]Connection{"a": a, "a b": b, c.Name(): c}; len(list) != 3 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", list, want)
	}
	for _, name := range []string{"a", "a", "a b", "other", c.Name()} {
		if err := d.Remove(name); err != nil {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if list, err := d.List(); len(list) != 0 || err != nil || Any(rundir) {
		t.Errorf("%v, %v are left", list, err)
	}
}

// TestDamaged: a damaged file is named in the error, and the others are still listed.
func TestDamaged(t *testing.T) {
	rundir := t.TempDir()
	if err := os.Chmod(rundir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := open(t, rundir)
	if err := d.Put(connection("a")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"conn.1": "", "conn.2": "{}", "conn.3": "\x00", "new": "{"} {
		if err := os.WriteFile(filepath.Join(rundir, directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := d.List()
	if len(list) != 1 || err == nil {
		t.Fatalf("got %v, %v", list, err)
	}
	for _, name := range []string{"conn.1 is damaged: ", "conn.2 is damaged: something is missing in it; remove it", "conn.3 is damaged: "} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%v: want %q in it", err, name)
		}
	}
}

// TestTurns: a second Open waits for the first holder, and sees what it has stored.
func TestTurns(t *testing.T) {
	rundir := filepath.Join(t.TempDir(), "run")
	d := open(t, rundir)
	found := make(chan int)
	go func() {
		other, err := Make(rundir)
		if err != nil {
			t.Error(err)
			found <- 0
			return
		}
		defer other.Close()
		list, _ := other.List()
		found <- len(list)
	}()
	if err := d.Put(connection("a")); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if n := <-found; n != 1 {
		t.Errorf("found %d, want 1", n)
	}
	// A directory that has been removed is created again.
	if err := Forget(rundir); err != nil {
		t.Fatal(err)
	}
	if Any(rundir) {
		t.Error("something is left")
	}
	if list, err := open(t, rundir).List(); len(list) != 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	if err := Forget(filepath.Join(rundir, "none")); err != nil {
		t.Error(err)
	}
}

// TestRefused: a run directory that others can write to is refused, and so is a
// symbolic link.
func TestRefused(t *testing.T) {
	rundir := t.TempDir()
	if err := os.Chmod(rundir, 0o777); err != nil {
		t.Fatal(err)
	}
	var bad *user.RundirError
	if _, err := Make(rundir); !errors.As(err, &bad) || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a directory of all: %v", err)
	}
	if err := os.Chmod(rundir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(rundir, directory)); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(rundir); err == nil {
		t.Error("a link is followed")
	}
}
