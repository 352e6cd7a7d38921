package followed_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/klips/user"
)

// patience is the limit for expected events. Only a failure takes so long.
const patience = time.Minute

// following runs Follow, and returns a channel that has an element for each call of renew,
// and one for the end.
func following(ctx context.Context, rundir, when string) (renewed chan struct{}, ended chan error) {
	renewed, ended = make(chan struct{}, 100), make(chan error, 1)
	go func() {
		ended <- followed.Follow(ctx, rundir, when, func(context.Context) { renewed <- struct{}{} })
	}()
	return renewed, ended
}

func await[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("within %v: not %s", patience, what)
	}
	return v
}

// daemon takes the lock of a daemon, and returns a function that ends it.
func daemon(t *testing.T, rundir string) (end func()) {
	t.Helper()
	dir, err := user.MakeDir(rundir)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := dir.TakeLock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		dir.RemoveFiles(true)
		lock.Close()
		dir.Close()
	}
}

func put(t *testing.T, rundir, name string) {
	t.Helper()
	d, err := followed.Make(rundir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	err = d.Put(followed.Connection{Conns: []string{name}, Config: "/etc/ipsec.conf", Route: followed.Route{Local: netip.MustParseAddr("192.0.2.1")}})
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, rundir, name string) {
	t.Helper()
	d, err := followed.Make(rundir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Remove(name); err != nil {
		t.Fatal(err)
	}
}

// Follow renews at once, and ends with the daemon.
func TestFollowDaemonEnds(t *testing.T) {
	rundir := t.TempDir()
	end := daemon(t, rundir)
	put(t, rundir, "a")
	renewed, ended := following(t.Context(), rundir, followed.Now)
	await(t, "renewed", renewed)
	end()
	if err := await(t, "ended", ended); err != nil {
		t.Error(err)
	}
}

// Follow ends when the last connection is removed, or all are forgotten.
func TestFollowNothing(t *testing.T) {
	rundir := t.TempDir()
	defer daemon(t, rundir)()
	if _, ended := following(t.Context(), rundir, followed.Now); await(t, "ended without a directory", ended) != nil {
		t.Error("no connections are an error")
	}
	for _, forget := range []bool{false, true} {
		put(t, rundir, "a")
		put(t, rundir, "b")
		renewed, ended := following(t.Context(), rundir, followed.Now)
		await(t, "renewed", renewed)
		remove(t, rundir, "a")
		if forget {
			if err := followed.Forget(rundir); err != nil {
				t.Fatal(err)
			}
		} else {
			remove(t, rundir, "b")
		}
		if err := await(t, "ended", ended); err != nil {
			t.Error(err)
		}
	}
}

// Only one process follows; a second one can take its place when it has ended.
func TestFollowNext(t *testing.T) {
	rundir := t.TempDir()
	defer daemon(t, rundir)()
	put(t, rundir, "a")
	ctx, stop := context.WithCancel(t.Context())
	first, ended := following(ctx, rundir, followed.Now)
	await(t, "renewed", first)
	if _, other := following(t.Context(), rundir, followed.Now); await(t, "ended beside the first", other) != nil {
		t.Error("another process is an error")
	}
	second, secondEnded := following(t.Context(), rundir, followed.Next)
	stop()
	if err := await(t, "ended", ended); err != nil {
		t.Error(err)
	}
	await(t, "renewed by the second", second)
	remove(t, rundir, "a")
	if err := await(t, "ended", secondEnded); err != nil {
		t.Error(err)
	}
}

// A process follows a connection that is added just when the last one is removed: either
// the one that was about to end, or the one that was started for the connection.
func TestFollowAgain(t *testing.T) {
	rundir := t.TempDir()
	defer daemon(t, rundir)()
	put(t, rundir, "a")
	renewed, follower := following(t.Context(), rundir, followed.Now)
	await(t, "renewed", renewed)
	for range 300 {
		remove(t, rundir, "a")
		put(t, rundir, "a")
		renewed, started := following(t.Context(), rundir, followed.Now)
		select {
		case <-renewed: // the other one had ended, or will
			if err := await(t, "ended beside the second", follower); err != nil {
				t.Fatal(err)
			}
			follower = started
		case <-started:
		}
		// A process that has not seen the connection ends now.
		put(t, rundir, "a")
		select {
		case err := <-follower:
			t.Fatalf("no process follows, and there is a connection: %v", err)
		default:
		}
	}
}
