package marks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/testscripts/skip"
)

func noon() time.Time { return time.Date(2020, time.February, 2, 12, 0, 0, 0, time.UTC) }

// open opens the marks in dir, which must not be damaged.
func open(t *testing.T, dir string) *File {
	t.Helper()
	f, err := Open(t.Context(), dir, noon, func(what string) { t.Errorf("damaged: %s", what) })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *File) begin1(t *testing.T, k Key) Mark {
	t.Helper()
	m, err := f.Begin(k)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func closed(t *testing.T, f *File) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// boot simulates a restart of the machine.
func boot(t *testing.T) {
	old := bootID
	n := old() + 1
	bootID = func() uint64 { return n }
	t.Cleanup(func() { bootID = old })
}

// TestOrderlyEnd: a key continues where it was when its SA was removed.
func TestOrderlyEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	f := open(t, dir)
	k, other := Key{1}, Key{2}
	if m := f.begin1(t, k); m != (Mark{}) {
		t.Errorf("an unknown key begins at %+v", m)
	}
	f.End(k, Mark{Sent: 7, Received: 9})
	f.begin1(t, other) // and is still in use at the end
	closed(t, f)

	boot(t) // this has no effect
	f = open(t, dir)
	defer closed(t, f)
	if m := f.begin1(t, k); m != (Mark{7, 9}) {
		t.Errorf("the key goes on at %+v", m)
	}
	if m := f.Get(other); m != (Mark{Sent: Unsynced}) {
		t.Errorf("the key that was in use goes on at %+v", m)
	}
	if m := f.Get(Key{3}); m != (Mark{}) {
		t.Errorf("an unknown key begins at %+v", m)
	}
	st, err := os.Stat(filepath.Join(dir, marksFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file has %v, %v", st.Mode(), err)
	}
	if st, err = os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the directory has %v, %v", st.Mode(), err)
	}
}

// TestKilled: numbers reserved by Begin count as sent when the process is killed.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	k := Key{1}
	f.begin1(t, k)
	f.release()
	f = open(t, dir)
	if m := f.begin1(t, k); m != (Mark{Sent: Unsynced}) {
		t.Errorf("after a kill: %+v", m)
	}
	f.Set(k, Mark{5 << 20, 3})
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	f.release()
	f = open(t, dir)
	defer f.release()
	if m := f.begin1(t, k); m != (Mark{5 << 20, 3}) {
		t.Errorf("after another kill: %+v", m)
	}
	if m := f.Get(Key{2}); m != (Mark{}) {
		t.Errorf("an unknown key begins at %+v", m)
	}
}

// TestCrash cuts the file to what the disk certainly has. The number at which a key
// then begins must be above all used ones.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, marksFile)
	f := open(t, dir)
	known, unknown := Key{1}, Key{2}
	f.begin1(t, known)
	f.Set(known, Mark{1000, 0})
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	certain := f.size
	used := map[Key]uint64{}
	for range 3 {
		for _, k := range []Key{known, unknown} {
			m := f.begin1(t, k)
			if k == known && f.marks.get(k).synced > 1000 {
				certain = f.size - recordLen // Begin has waited for the disk
			}
			used[k] = m.Sent + Unsynced
			f.End(k, Mark{Sent: used[k]})
		}
	}
	f.release()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := certain; cut <= int64(len(b)); cut++ {
		if err := os.WriteFile(path, b[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		c, ok := parse(b[:cut])
		if !ok || !c.crashed(bootID()+1) {
			t.Fatalf("cut at %d: no crash is seen", cut)
		}
	}
	if err := os.WriteFile(path, b[:certain], 0o600); err != nil {
		t.Fatal(err)
	}
	boot(t)
	f = open(t, dir)
	for k, n := range used {
		if m := f.Get(k); m.Sent < n {
			t.Errorf("key %x begins at %d and has been used up to %d", k[:1], m.Sent, n)
		}
	}
	closed(t, f)
	f = open(t, dir) // once is enough
	defer closed(t, f)
	if m := f.Get(Key{77}); m.Sent != Unsynced {
		t.Errorf("an unknown key begins at %d", m.Sent)
	}
}

// TestTorn cuts and changes the file at every byte of its last record: the key's
// previous record counts, and the damage is reported.
func TestTorn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, marksFile)
	f := open(t, dir)
	k := Key{1}
	f.Set(k, Mark{5, 6})
	f.Set(k, Mark{7, 8})
	closed(t, f)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(whole) - recordLen; i < len(whole); i++ {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x10
		for name, b := range map[string][]byte{"cut": whole[:i], "changed": flipped} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			var told []string
			f, err := Open(t.Context(), dir, noon, func(what string) { told = append(told, what) })
			if err != nil {
				t.Fatal(err)
			}
			if m := f.Get(k); m != (Mark{5, 6}) {
				t.Errorf("%s at %d: %+v", name, i, m)
			}
			if want := len(b)%recordLen != 0 || name == "changed"; want != (len(told) == 1) {
				t.Errorf("%s at %d: reported %q", name, i, told)
			}
			closed(t, f)
			closed(t, open(t, dir)) // it is reported once
		}
	}
}

// TestForeign: a foreign file is renamed.
func TestForeign(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": {}, "text": []byte("hello, world, this is no file of sequence marks at all, is it?"), "zeros": make([]byte, 480),
		"header of another version": append([]byte("klipsmk2"), header([32]byte{})[8:]...),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, marksFile), b, 0o644); err != nil {
			t.Fatal(err)
		}
		var told []string
		f, err := Open(t.Context(), dir, noon, func(what string) { told = append(told, what) })
		if err != nil || len(told) != 1 {
			t.Fatalf("%s: %v, reported %q", name, err, told)
		}
		f.Set(Key{1}, Mark{5, 6})
		closed(t, f)
		if got, err := os.ReadFile(filepath.Join(dir, damagedFile)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: put aside is %q, %v", name, got, err)
		}
		f = open(t, dir)
		if m := f.Get(Key{1}); m != (Mark{5, 6}) {
			t.Errorf("%s: %+v", name, m)
		}
		closed(t, f)
	}
}

// TestDir: a directory that other users can change is refused, and so is a file in its
// place.
func TestDir(t *testing.T) {
	try := func(what, path string, kind error) {
		t.Helper()
		_, err := Open(t.Context(), path, noon, nil)
		var d *DirError
		if !errors.As(err, &d) || !errors.Is(err, kind) {
			t.Errorf("%s: %v", what, err)
		}
	}
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o770)); err != nil {
		t.Fatal(err)
	}
	try("a directory that a group may change", open, fs.ErrPermission)
	real := filepath.Join(dir, "real")
	if err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	try("a link", filepath.Join(dir, "link")+"/", syscall.ENOTDIR)
	for _, name := range []string{marksFile, lockFile} {
		os.Remove(filepath.Join(real, name)) // made by the first refusal
		if err := os.Symlink("/etc/passwd", filepath.Join(real, name)); err != nil {
			t.Fatal(err)
		}
		try(name+" as a link", real, syscall.ELOOP)
		if err := os.Remove(filepath.Join(real, name)); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(filepath.Join(real, name), 0o600); err != nil {
			t.Fatal(err)
		}
		try(name+" as a pipe", real, syscall.EINVAL)
		if err := os.Remove(filepath.Join(real, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBusy(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, dir, noon, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a second writer: %v", err)
	}
	closed(t, f)
	closed(t, open(t, dir))
}

// TestWriteFails: after a failed write the file catches up with memory.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	k := Key{1}
	good := f.f
	bad, err := os.Open(filepath.Join(dir, marksFile)) // read-only, so that writes fail
	if err != nil {
		t.Fatal(err)
	}
	f.f = bad
	if m, err := f.Begin(k); err == nil || m != (Mark{}) {
		t.Errorf("Begin = %+v, %v", m, err)
	}
	if err := f.Sync(); err != nil {
		t.Errorf("Sync = %v", err)
	}
	good.Close()
	f.release()
	f = open(t, dir)
	defer closed(t, f)
	if m := f.Get(k); m != (Mark{Sent: Unsynced}) {
		t.Errorf("%+v", m)
	}
}

// TestForget: if there are too many keys, those that were unused for the longest time
// are removed, but not those in use; and the file does not grow.
func TestForget(t *testing.T) {
	dir := t.TempDir()
	now := noon()
	f, err := Open(t.Context(), dir, func() time.Time { return now }, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := func(n int) (k Key) {
		binary.BigEndian.PutUint32(k[:], uint32(n+1))
		return k
	}
	f.begin1(t, key(0))
	for n := range Max + 10 {
		now = now.Add(time.Second)
		if n > 0 {
			f.Set(key(n), Mark{Sent: uint64(n)})
		}
	}
	for range 4 {
		for n := range Max - 1 {
			f.Set(key(n+11), Mark{Sent: f.marks.get(key(n+11)).Sent + 1})
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if f.Len() != Max || f.Get(key(0)).Sent == 0 || f.Get(key(5)).Sent != 0 || f.Get(key(11)).Sent != 15 {
		t.Errorf("%d keys; the first, sixth and twelfth: %v, %v, %v", f.Len(), f.Get(key(0)), f.Get(key(5)), f.Get(key(11)))
	}
	if limit := int64(recordLen * (3*Max + 2*slack)); f.size > limit {
		t.Errorf("the file has %d bytes, at most %d", f.size, limit)
	}
	closed(t, f)
}

// TestKey: a Key depends on all parameters that protect packets, and they are not in
// the file.
func TestKey(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	base := klips.SASpec{
		ID:        klips.SAID{Dst: netip.MustParseAddr("192.0.2.1"), SPI: 0x1000, Proto: klips.ProtoESP},
		Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1},
		EncKey:    []byte("0123456789abcdef"), AuthKey: []byte("0123456789abcdef0123"),
	}
	seen := map[Key]string{}
	for name, change := range map[string]func(*klips.SASpec){
		"base":     func(*klips.SASpec) {},
		"address":  func(s *klips.SASpec) { s.ID.Dst = netip.MustParseAddr("2001:db8::1") },
		"SPI":      func(s *klips.SASpec) { s.ID.SPI++ },
		"protocol": func(s *klips.SASpec) { s.ID.Proto = klips.ProtoAH },
		"cipher":   func(s *klips.SASpec) { s.Enc = alg.AESGCM },
		"hash":     func(s *klips.SASpec) { s.Auth = alg.MD5 },
		"key":      func(s *klips.SASpec) { s.EncKey = []byte("0123456789abcdeg") },
		"auth key": func(s *klips.SASpec) { s.AuthKey = []byte("0123456789abcdef0124") },
		"border":   func(s *klips.SASpec) { s.AuthKey, s.EncKey = s.AuthKey[:19], []byte("30123456789abcdef") },
		"ESN":      func(s *klips.SASpec) { s.ESN = true },
	} {
		s := base
		change(&s)
		k := f.Key(&s)
		if other, ok := seen[k]; ok || k == (Key{}) {
			t.Errorf("%s: key %x, as %q", name, k, other)
		}
		seen[k] = name
		s.Window, s.Src, s.Seq = 64, netip.MustParseAddr("192.0.2.9"), new(uint64)
		if f.Key(&s) != k {
			t.Errorf("%s: window, source and numbers make another key", name)
		}
		f.Set(k, Mark{1, 1})
	}
	tun := base
	tun.ID.Proto = klips.ProtoTun
	none := base
	none.EncKey, none.AuthKey = nil, nil
	if f.Key(&tun) != (Key{}) || f.Key(&none) != (Key{}) {
		t.Error("an SA without numbers or keys has a key")
	}
	closed(t, f)
	b, err := os.ReadFile(filepath.Join(dir, marksFile))
	if err != nil || bytes.Contains(b, base.EncKey[:8]) {
		t.Errorf("the file holds a key, or %v", err)
	}
	other := open(t, t.TempDir())
	defer closed(t, other)
	if _, ok := seen[other.Key(&base)]; ok {
		t.Error("two directories have one secret")
	}
}

func TestAdd(t *testing.T) {
	for _, n := range []uint64{0, 1, math.MaxUint64 - 1, math.MaxUint64} {
		if got := add(n, Unsynced); got < n || got < Unsynced {
			t.Errorf("add(%d) = %d", n, got)
		}
	}
}

func TestHere(t *testing.T) {
	if got := Here(); got != DefaultDir && !strings.HasPrefix(got, DefaultDir+"/netns-") {
		t.Errorf("Here = %q", got)
	}
}

// FuzzParse parses any file. It must not panic, and writing the parsed contents must give
// the same contents.
func FuzzParse(f *testing.F) {
	h := header([32]byte{1, 2, 3})
	rec := encode(Key{9}, 1, 2, 3, kindMark)
	f.Add([]byte(nil))
	f.Add(h)
	f.Add(append(bytes.Clone(h), rec...))
	f.Add(append(append(bytes.Clone(h), encode(Key{}, 4, 0, 0, kindFloor)...), rec[:20]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := parse(b)
		if !ok {
			// Set the right checksums, so that it passes.
			if len(b) < recordLen {
				return
			}
			b = bytes.Clone(b)
			copy(b, magic)
			for i := 0; i+recordLen <= len(b); i += recordLen {
				copy(b[i+recordLen-4:], seal(bytes.Clone(b[i : i+recordLen-4]))[recordLen-4:])
			}
			if c, ok = parse(b); !ok {
				t.Fatal("a right header is refused")
			}
		}
		out := header(c.secret)
		for k, e := range c.marks.all() {
			out = append(out, record(k, e)...)
		}
		again, ok := parse(out)
		if !ok || again.marks.len() != c.marks.len() || again.bad != 0 || again.secret != c.secret {
			t.Fatalf("written again: %v, %+v", ok, again)
		}
		for k, e := range c.marks.all() {
			if a := again.marks.get(k); a.Mark != e.Mark || a.used != e.used {
				t.Fatal(fmt.Sprint("another mark of ", k))
			}
		}
	})
}

// A directory that one process has opened with Give serves another, which may not be
// able to reach it by its path.
func TestGive(t *testing.T) {
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	above := t.TempDir()
	path := filepath.Join(above, "state")
	d, err := Give(path, uid, gid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	f, err := OpenIn(t.Context(), d, path, time.Now, func(what string) { t.Error(what) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, path+".moved", time.Now, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("Open = %v, want ErrBusy", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(path+".moved", marksFile)); err != nil {
		t.Error(err)
	}
	var bad *DirError
	if _, err := Give("/dev/null", uid, gid); err == nil {
		t.Error("a file is taken as a directory")
	}
	if err := os.Chmod(path+".moved", 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Give(path+".moved", uid, gid); !errors.As(err, &bad) {
		t.Errorf("Give of a directory that others may write to = %v, want a DirError", err)
	}
}

// The directory and its files get the user of the daemon. A file that has another name
// elsewhere keeps its owner.
func TestGiveOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Without(t, skip.Root, "only root gives files away")
	}
	path := filepath.Join(t.TempDir(), "state")
	file := filepath.Join(path, marksFile)
	if err := errors.Join(os.Mkdir(path, 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	const user = 733
	d, err := Give(path, user, user)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	for _, name := range []string{path, file} {
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil || st.Uid != user || st.Gid != user {
			t.Errorf("%s: user %d, group %d, %v, want %d", name, st.Uid, st.Gid, err, user)
		}
	}
	if err := os.Chown(path, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, path+".elsewhere"); err != nil {
		t.Fatal(err)
	}
	if _, err := Give(path, 0, 0); !errors.Is(err, unix.EMLINK) {
		t.Errorf("Give of a file with two names = %v, want EMLINK", err)
	}
}
