package setup

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// runOn runs setup on a kernel's stack.
func runOn(stack *clitest.Stack, err error, args ...string) result {
	var out, errs bytes.Buffer
	env := &cli.Env{
		Name: "ipsec setup", Out: &out, Err: &errs, StackName: "klips",
		Getenv: func(string) string { return "" },
		Stack:  func(context.Context) (klips.Stack, error) { return serial.New(stack), err },
	}
	text, status := cli.Message(env.Name, App(nil, nil).Run(context.Background(), env, args))
	return result{status, out.String(), errs.String() + text}
}

// TestKernelActions: on a kernel's stack only the actions that restart or stop it
// remove objects.
func TestKernelActions(t *testing.T) {
	cleared := len(clearing(t))
	for action, clears := range map[string]bool{
		"start": false, "reload": false, "stop": true, "restart": true, "force-reload": true, "condrestart": true, "try-restart": true,
	} {
		s := new(clitest.Stack)
		r := runOn(s, nil, action)
		if r.status != 0 || r.out+r.err != "" {
			t.Errorf("%s: %v", action, r)
		}
		want := 0
		if clears {
			want = cleared
		}
		if got := len(s.Messages) + len(s.Ioctls); got != want {
			t.Errorf("%s makes %d changes, want %d: %v %v", action, got, want, s.Messages, s.Ioctls)
		}
	}
}

// TestKernelStopFails: if SAs cannot be removed, packets still do not reach them. If
// eroutes cannot be removed, nothing is changed.
func TestKernelStopFails(t *testing.T) {
	for _, tt := range []struct {
		at              int // number of the refused message
		messages, calls int
		want            string
	}{
		{1, 1, 0, "the eroutes were not removed: "},
		{2, 2, 1, "; the eroutes are removed and the devices are detached all the same"},
	} {
		s := &clitest.Stack{SendErr: syscall.EBUSY, SendErrAt: tt.at}
		r := runOn(s, nil, "stop")
		if r.status != 1 || !strings.Contains(r.err, tt.want) || len(s.Messages) != tt.messages || len(s.Ioctls) != tt.calls {
			t.Errorf("stop, refused at message %d: %v, %d messages, %v, want %q", tt.at, r, len(s.Messages), s.Ioctls, tt.want)
		}
	}
}

// clearing returns the requests of stop to a stack.
func clearing(t *testing.T) []string {
	s := new(clitest.Stack)
	if r := runOn(s, nil, "stop"); r.status != 0 || len(s.Messages) == 0 || len(s.Ioctls) == 0 {
		t.Fatalf("stop: %v, %v, %v", r, s.Messages, s.Ioctls)
	}
	return append(s.Messages, s.Ioctls...)
}

// TestKernelWithoutStack: without the stack every action fails except condrestart,
// which has nothing to restart. A user without rights gets an error in any case.
func TestKernelWithoutStack(t *testing.T) {
	none := &klips.UnavailableError{Fault: klips.FaultNoESP, Err: fs.ErrNotExist}
	forbidden := &klips.UnavailableError{Why: "not for you", Err: fs.ErrPermission}
	got := map[string]string{}
	for _, action := range []string{"start", "stop", "restart", "force-reload", "condrestart", "try-restart", "reload", "status"} {
		for name, err := range map[string]error{"none": none, "forbidden": forbidden} {
			r := runOn(nil, err, action)
			got[action+" "+name] = fmt.Sprintf("%d %s", r.status, strings.TrimSpace(r.out+r.err))
		}
	}
	want := map[string]string{"status none": "3 IPsec stopped (stack klips: this kernel has no ESP; load the module esp4 (CONFIG_INET_ESP), or use another stack (--stack))"}
	for _, action := range []string{"start", "stop", "restart", "force-reload", "reload"} {
		want[action+" none"] = "1 ipsec setup: this kernel has no ESP; load the module esp4 (CONFIG_INET_ESP), or use another stack (--stack)"
	}
	for _, action := range []string{"condrestart", "try-restart"} {
		want[action+" none"] = "0 ipsec setup: note: nothing to restart: this kernel has no ESP; load the module esp4 (CONFIG_INET_ESP), or use another stack (--stack)"
	}
	for _, action := range []string{"start", "stop", "restart", "force-reload", "condrestart", "try-restart", "reload", "status"} {
		want[action+" forbidden"] = "1 ipsec setup: not for you"
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestCommandLines(t *testing.T) {
	long := "/" + strings.Repeat("x", 100)
	for _, tt := range []struct {
		args, rundir, want string
		status             int
	}{
		{"", "", "what to do is missing: start, stop, restart, force-reload, condrestart, try-restart, reload, status, set", 2},
		{"frobnicate", "", "frobnicate: no such action; there are start, stop,", 2},
		{"relaod", "", "relaod: no such action; did you mean reload?", 2},
		{"start stop", "", "one thing at a time: start and stop were given", 2},
		{"reload --json", "", "--json goes with status only", 2},
		{"set", "", "a knob is missing", 2},
		{"--status", long, "bytes, and at most 96 fit the address of a socket in it; set IPSEC_RUNDIR to a shorter path", 1},
		{"start", long, "bytes, and at most 96 fit the address of a socket in it; set IPSEC_RUNDIR to a shorter path", 1},
		{"stop", long, "bytes, and at most 96 fit the address of a socket in it; set IPSEC_RUNDIR to a shorter path", 1},
		{"restart", long, "bytes, and at most 96 fit the address of a socket in it; set IPSEC_RUNDIR to a shorter path", 1},
		{"condrestart", long, "bytes, and at most 96 fit the address of a socket in it; set IPSEC_RUNDIR to a shorter path", 1},
		{"reload", long, "bytes, and at most 96 fit the address of a socket in it; set IPSEC_RUNDIR to a shorter path", 1},
		{"set tos=1", long, "bytes, and at most 96 fit the address of a socket in it; set IPSEC_RUNDIR to a shorter path", 1},
	} {
		r := clitest.Run(App(nil, nil), clitest.World{Environ: map[string]string{"IPSEC_RUNDIR": tt.rundir}}, strings.Fields(tt.args)...)
		if r.Status != tt.status || !strings.Contains(r.Err, tt.want) || r.Opened {
			t.Errorf("setup %s: status %d, %q, want %d, %q", tt.args, r.Status, r.Err, tt.status, tt.want)
		}
	}
}

func TestWriteDevices(t *testing.T) {
	var b strings.Builder
	writeDevices(&b, []klips.Device{
		{Name: "ipsec0", Physical: "eth0", MTU: 1400, AttMTU: 9000, PhysMTU: 1500},
		{Name: "ipsec1", MTU: 1500},
		{Name: "ipsec2"},
		{Name: "ipsec3", Awaits: "eth1", MTU: 1446},
	})
	want := "ipsec0 on eth0, mtu 1400 (eth0 has 1500)\nipsec1 not attached, mtu 1500\nipsec2 not attached\nipsec3 waits until eth1 is up, mtu 1446\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
