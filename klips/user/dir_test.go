package user

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func openDir(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// ended returns a context that has ended: one attempt without waiting.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestLock(t *testing.T) {
	path := runDir(t)
	d, other := openDir(t, path), openDir(t, path)
	if pid, err := d.Holder(); pid != 0 || err != nil {
		t.Errorf("Holder = %d, %v, want none", pid, err)
	}
	l, err := d.TakeLock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var running *Running
	if _, err := other.TakeLock(ended(t)); !errors.As(err, &running) || running.PID != os.Getpid() {
		t.Errorf("a second TakeLock = %v, want Running with pid %d", err, os.Getpid())
	}
	if pid, err := other.Holder(); pid != os.Getpid() || err != nil {
		t.Errorf("Holder = %d, %v, want %d", pid, err, os.Getpid())
	}
	if err := other.RemoveRest(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(LockPath(path)); string(b) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("while it is held the file has %q, %v", b, err)
	}
	d.RemoveFiles(false)
	l.Close()
	if pid, err := other.Holder(); pid != 0 || err != nil {
		t.Errorf("Holder after Release = %d, %v", pid, err)
	}
	if l, _ := os.ReadDir(path); len(l) != 0 {
		t.Errorf("left: %v", l)
	}
}

// The file of a killed daemon is not a lock: many callers that check it at once do not
// take each other for a daemon.
func TestHolderOfNothing(t *testing.T) {
	path := runDir(t)
	if err := os.WriteFile(LockPath(path), []byte("1234567\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		d := openDir(t, path)
		wg.Go(func() {
			for range 500 {
				if pid, err := d.Holder(); pid != 0 || err != nil {
					t.Errorf("Holder = %d, %v, want none", pid, err)
					return
				}
			}
		})
	}
	wg.Wait()
	d := openDir(t, path)
	if err := d.RemoveRest(); err != nil {
		t.Fatal(err)
	}
	if l, _ := os.ReadDir(path); len(l) != 0 {
		t.Errorf("left: %v", l)
	}
}

// Whenever daemons start and stop, at most one has the lock.
func TestLockIsOfOne(t *testing.T) {
	path := runDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var holders, taken atomic.Int32
	var wg sync.WaitGroup
	for range 6 {
		d := openDir(t, path)
		wg.Go(func() {
			for range 30 {
				l, err := d.TakeLock(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				taken.Add(1)
				holders.Add(-1)
				d.RemoveFiles(false)
				l.Close()
			}
		})
	}
	wg.Wait()
	if n := taken.Load(); n != 6*30 {
		t.Errorf("the lock was taken %d times, want %d", n, 6*30)
	}
}

// A caller that waits for its turn gets the directory that exists then, even if the
// previous holder has removed it.
func TestTurns(t *testing.T) {
	path := runDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := LockDir(ctx, path+"/none", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LockDir of none = %v, want %v", err, fs.ErrNotExist)
	}
	d, err := LockDir(ctx, path, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(ended(t), path, true); !errors.Is(err, context.Canceled) {
		t.Errorf("a second LockDir = %v, want %v", err, context.Canceled)
	}
	d.Close()
	var inside atomic.Int32
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range 20 {
				d, err := LockDir(ctx, path, true)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d have the turn", n)
				}
				if !d.current() {
					t.Error("the turn is for a directory that was removed")
				}
				inside.Add(-1)
				if err := d.Discard(); err != nil {
					t.Error(err)
				}
				d.Close()
			}
		})
	}
	wg.Wait()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the directory is still there")
	}
}

// A turn leaves no files, and an interrupted one does not make others wait.
func TestTurnLeavesNothing(t *testing.T) {
	path := runDir(t)
	if err := os.WriteFile(path+"/"+turnFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := LockDir(ended(t), path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(LogPath(path), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(); err != nil {
		t.Errorf("Discard of one with a file = %v", err)
	}
	d.Close()
	if l, _ := os.ReadDir(path); len(l) != 1 {
		t.Errorf("left: %v, want the log", l)
	}
}

// A daemon can be stopped while the disk is full.
func TestTurnWithoutRoom(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		if !full(&fs.PathError{Op: "open", Path: "x", Err: err}) {
			t.Errorf("%v keeps one from stopping", err)
		}
	}
	if full(nil) || full(fs.ErrPermission) {
		t.Error("a disk that has room is full")
	}
}

func TestLog(t *testing.T) {
	path := runDir(t)
	d := openDir(t, path)
	for _, line := range []string{"one\n", "two\n"} {
		f, err := d.OpenLog()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(line); err != nil {
			t.Error(err)
		}
		if fi, err := f.Stat(); err != nil || fi.Mode().Perm() != 0o600 || f.Name() != LogPath(path) {
			t.Errorf("%s has mode %v, %v", f.Name(), fi.Mode(), err)
		}
		f.Close()
	}
	if b, err := os.ReadFile(LogPath(path)); string(b) != "one\ntwo\n" {
		t.Errorf("the log is %q, %v", b, err)
	}
	if err := errors.Join(d.RemoveLog(), d.RemoveLog()); err != nil {
		t.Error(err)
	}
}

// A lock file without a number is reported, and no process is killed.
func TestHolderWithoutPID(t *testing.T) {
	path := runDir(t)
	d := openDir(t, path)
	l, err := d.TakeLock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, text := range []string{"", "x\n", "-7\n", "0\n", "1\n", "12"} {
		if err := os.WriteFile(LockPath(path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := d.open(lockFile, os.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		if pid := readPID(f); pid > 1 {
			t.Errorf("readPID of %q = %d", text, pid)
		}
		f.Close()
	}
	if pid, err := d.Holder(); err == nil || !strings.Contains(err.Error(), "process id") {
		t.Errorf("Holder = %d, %v, want words about the process id", pid, err)
	}
}
