package tncfg_test

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A deviceStack records the devices that are created and deleted, and has one device.
type deviceStack struct {
	clitest.Stack
	err error
}

func (s *deviceStack) CreateDevice(_ context.Context, name string) error {
	s.Ioctls = append(s.Ioctls, "create "+name)
	return s.err
}

func (s *deviceStack) DeleteDevice(_ context.Context, name string) error {
	s.Ioctls = append(s.Ioctls, "delete "+name)
	return s.err
}

func (s *deviceStack) Devices(context.Context) ([]klips.Device, error) {
	return []klips.Device{{Name: "ipsec0", Physical: "eth1", MTU: 16260, AttMTU: 1500, PhysMTU: 1500}}, s.err
}

func run(s *deviceStack, line string) clitest.Result {
	w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(s) }}
	return clitest.Run(tncfg.App(), w, strings.Fields(line)...)
}

func TestRequests(t *testing.T) {
	tests := []struct{ line, want string }{
		{"--attach --virtual ipsec0 --physical eth0", "attach ipsec0 eth0"},
		{"--physical eth0 --virtual ipsec0 --attach", "attach ipsec0 eth0"},
		{"-attach -virtual ipsec0 -physical=eth0", "attach ipsec0 eth0"},
		{"-at -vi ipsec0 -p eth0", "attach ipsec0 eth0"},
		{"--attach --virtual ipsec0 --virtual ipsec1 --physical eth0", "attach ipsec1 eth0"},
		{"--detach --virtual ipsec0", "detach ipsec0"},
		{"--detach --virtual ipsec0 --physical eth0", "detach ipsec0"},
		{"--clear", "clear"},
		{"--clear --virtual ipsec3", "clear"},
		{"--create ipsec63", "create ipsec63"},
		{"-delete mast010", "delete mast10"},
		{"--create=ipsec0", "create ipsec0"},
	}
	for _, tt := range tests {
		s := &deviceStack{}
		if r := run(s, tt.line); r.Status != 0 || r.Out != "" || r.Err != "" || !slices.Equal(s.Ioctls, []string{tt.want}) || s.Closed != 1 {
			t.Errorf("tncfg %s: status %d, calls %q, want %q; %s", tt.line, r.Status, s.Ioctls, tt.want, r.Err)
		}
	}
}

func TestRefused(t *testing.T) {
	tests := []struct{ line, want string }{
		{"--virtual ipsec0", "nothing to do; give one of --attach, --detach, --create, --delete and --clear"},
		{"--attach --detach", "--detach after --attach; give one of --attach, --detach, --create, --delete and --clear"},
		{"--attach --attach", "--attach after --attach; give one of --attach, --detach, --create, --delete and --clear"},
		{"--attach --virtual ipsec0", "--attach needs --physical DEVICE, the device that packets leave by"},
		{"--attach --physical eth0", "--attach needs --virtual, as in --virtual ipsec0"},
		{"--detach", "--detach needs --virtual, as in --virtual ipsec0"},
		{"--attach --virtual eth0 --physical eth0", "--virtual and --physical are both eth0"},
		{"--attach --virtual ipsec0 --physical abcdefghijklmnop", "--physical abcdefghijklmnop: names of devices have at most 15 characters"},
		{"--detach --virtual a/b", "--virtual a/b: names of devices have no blanks and no slashes"},
		{"--create ipsec", "--create ipsec: not the name of a virtual device; those are ipsec0 to ipsec63"},
		{"--create ipsec1x", "--create ipsec1x: not the name of a virtual device; those are ipsec0 to ipsec63"},
		{"--create ipsec-1", "--create ipsec-1: not the name of a virtual device; those are ipsec0 to ipsec63"},
		{"--delete eth0", "--delete eth0: not the name of a virtual device; those are ipsec0 to ipsec63"},
		{"--delete ipsec64", "--delete ipsec64: the number is too large; devices are ipsec0 to ipsec63"},
		{"-v ipsec0", "option -v can mean --virtual, --version; write more of its name"},
		{"-x", "unknown option -x"},
		{"--clear ipsec0", "unexpected argument ipsec0; everything here is given with options"},
	}
	for _, tt := range tests {
		s := &deviceStack{}
		r := run(s, tt.line)
		if want := "ipsec tncfg: " + tt.want + "\n"; r.Err != want || r.Status != cli.ExitUsage || r.Opened {
			t.Errorf("tncfg %s: status %d\n got %swant %s", tt.line, r.Status, r.Err, want)
		}
	}
}

func TestStackRefuses(t *testing.T) {
	tests := []struct {
		line  string
		ioctl error
		err   error
		want  string
	}{
		{"--attach --virtual ipsec9 --physical eth0", syscall.ENODEV, nil, "ipsec9: no such virtual device; ipsec tncfg lists those that exist, ipsec tncfg --create makes one"},
		{"--attach --virtual ipsec0 --physical eth9", syscall.ENXIO, nil, "eth9: no such physical device; ip link lists those that exist"},
		{"--attach --virtual ipsec0 --physical eth0", syscall.EBUSY, nil, "ipsec0: attached to a physical device already; detach it first with ipsec tncfg --detach --virtual and its name"},
		{"--detach --virtual ipsec0", syscall.ENODEV, nil, "ipsec0: no such device, or it is not attached; ipsec tncfg lists the devices"},
		{"--create ipsec1", nil, syscall.EEXIST, "ipsec1: it exists already; ipsec tncfg lists the devices"},
		{"--delete ipsec1", nil, syscall.ENOENT, "ipsec1: no such device; ipsec tncfg lists those that exist, ipsec tncfg --create makes one"},
	}
	for _, tt := range tests {
		s := &deviceStack{err: tt.err}
		s.IoctlErr = tt.ioctl
		r := run(s, tt.line)
		if want := "ipsec tncfg: " + tt.want + "\n"; r.Err != want || r.Status != cli.ExitFailed {
			t.Errorf("tncfg %s: status %d\n got %swant %s", tt.line, r.Status, r.Err, want)
		}
	}
}

// TestNoEffect: if the kernel has done nothing, the command succeeds like the classic
// tool, and prints a note.
func TestNoEffect(t *testing.T) {
	for _, tt := range []struct {
		line, want string
		errno      syscall.Errno
	}{
		{"--create ipsec0", "ipsec0: the kernel answers that it is made, but nothing has changed: it was there before", syscall.EEXIST},
		{"--create ipsec4", "ipsec4: the kernel answers that it is made, but nothing has changed: it is not listed", syscall.EOPNOTSUPP},
		{"--delete ipsec0", "ipsec0: the kernel answers that it is removed, but nothing has changed: it is still there", syscall.EOPNOTSUPP},
		{"--delete ipsec4", "ipsec4: the kernel answers that it is removed, but nothing has changed: it was not there", syscall.ENOENT},
	} {
		s := &deviceStack{err: &klips.OpError{Object: "x", Err: tt.errno, Fault: klips.FaultNoEffect}}
		r := run(s, tt.line)
		if r.Status != 0 || !strings.HasPrefix(r.Err, "ipsec tncfg: note: "+tt.want) || strings.Count(r.Err, "\n") != 1 || len(s.Ioctls) != 1 {
			t.Errorf("tncfg %s: status %d, %q, want %q", tt.line, r.Status, r.Err, tt.want)
		}
	}
}

func TestOutput(t *testing.T) {
	r := run(&deviceStack{}, "")
	if want := "ipsec0 -> eth1 mtu=16260(1500) -> 1500\n"; r.Status != 0 || r.Out != want {
		t.Errorf("tncfg: status %d, %q, want %q", r.Status, r.Out, want)
	}
	r = run(&deviceStack{}, "-help")
	for _, o := range tncfg.App().Options {
		if r.Status != 0 || !strings.Contains(r.Out, "--"+o.Name) {
			t.Errorf("usage lacks --%s:\n%s", o.Name, r.Out)
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	clitest.FuzzCommandLine(f, tncfg.App,
		"", "-help", "--clear", "--attach --virtual ipsec0 --physical eth0", "-detach -virtual=ipsec1", "--create ipsec63",
		"--delete mast010", "--label x --debug --create ipsec64", "-l \x00 extra")
}
