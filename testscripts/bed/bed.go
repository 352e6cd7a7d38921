// Package bed creates the test bed in which programs measure and strain the embedded
// stack: two hosts on one cable, a network behind each, and the stack running on both.
// Packets between the networks are routed into ipsec0.
package bed

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/xfrm"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// The addresses of the two hosts: on the cable (eth0) and behind (lo).
var (
	Wires  = [2]string{"192.0.2.1", "192.0.2.2"}
	Inners = [2]string{"10.1.0.1", "10.2.0.1"}
)

// A Bed is two hosts with a stack each.
type Bed struct {
	Hosts [2]*lab.Host

	ipsec, dir string
	env        []string
}

// TryXfrm calls try with the kernel's stack on a host of its own. An error of opening it
// is returned: then the stack does not work here.
func TryXfrm(try func(*xfrm.Stack) error) error {
	h, err := lab.NewHost("probe")
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Do(func() error {
		s, err := xfrm.Open()
		if err != nil {
			return err
		}
		defer s.Close()
		return try(s)
	})
}

// Open creates a bed with the given program. The names of the hosts begin with name. The
// commands have the variables env besides those of this process.
func Open(ipsec, name string, env ...string) (b *Bed, err error) {
	b = &Bed{env: env}
	if b.ipsec, err = filepath.Abs(ipsec); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "ipsec-"+name); err != nil {
		return nil, err
	}
	if err := b.open(name); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Pair creates two hosts on one cable with their addresses, and no stack. Close both.
func Pair(name string, opts ...lab.Option) (hosts [2]*lab.Host, err error) {
	defer func() {
		if err != nil {
			closeHosts(hosts)
			hosts = [2]*lab.Host{}
		}
	}()
	for i := range hosts {
		if hosts[i], err = lab.NewHost(fmt.Sprintf("%s%d", name, i+1), opts...); err != nil {
			return hosts, err
		}
	}
	if err := lab.Cable(hosts[0], "eth0", hosts[1], "eth0"); err != nil {
		return hosts, err
	}
	for i, h := range hosts {
		if err := errors.Join(
			h.AddAddr("eth0", netip.MustParsePrefix(Wires[i]+"/24")),
			h.AddAddr("lo", netip.MustParsePrefix(Inners[i]+"/32")),
		); err != nil {
			return hosts, err
		}
	}
	return hosts, nil
}

func closeHosts(hosts [2]*lab.Host) {
	for _, h := range hosts {
		if h != nil {
			h.Close()
		}
	}
}

func (b *Bed) open(name string) (err error) {
	if b.Hosts, err = Pair(name); err != nil {
		return err
	}
	if err := b.Both("setup start", "tncfg --attach --virtual ipsec0 --physical eth0"); err != nil {
		return err
	}
	for i, h := range b.Hosts {
		if err := errors.Join(h.Up("ipsec0"), h.AddRoute(lab.Route{
			Dst: netip.MustParsePrefix(Inners[1-i] + "/32"), Dev: "ipsec0", Src: netip.MustParseAddr(Inners[i]),
		})); err != nil {
			return err
		}
	}
	return nil
}

// Close stops the stacks and removes the hosts.
func (b *Bed) Close() {
	_ = b.Both("setup stop")
	closeHosts(b.Hosts)
	os.RemoveAll(b.dir)
}

// Both runs commands, without the word ipsec, on both hosts.
func (b *Bed) Both(lines ...string) error {
	for i, h := range b.Hosts {
		if h == nil {
			continue
		}
		for _, l := range lines {
			if err := b.Run(i, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// Run runs a command, without the word ipsec, on one host.
func (b *Bed) Run(host int, line string) error {
	cmd := exec.Command(b.ipsec, strings.Fields(line)...)
	cmd.Env = append(os.Environ(), "IPSEC_RUNDIR="+b.Rundir(host), "IPSEC_STATEDIR="+b.Statedir(host))
	cmd.Env = append(cmd.Env, b.env...)
	if out, err := b.Hosts[host].Output(cmd); err != nil {
		return fmt.Errorf("ipsec %s: %w %s", line, err, out)
	}
	return nil
}

// Rundir returns the run directory of a host's daemon.
func (b *Bed) Rundir(host int) string { return filepath.Join(b.dir, fmt.Sprint(host)) }

// Statedir returns the directory of the sequence marks of a host's daemon.
func (b *Bed) Statedir(host int) string { return filepath.Join(b.dir, fmt.Sprint("state", host)) }

// Dial connects to a host's daemon.
func (b *Bed) Dial(host int) (*user.Client, error) { return user.Dial(user.SocketPath(b.Rundir(host))) }

// PID returns the process id of a host's daemon.
func (b *Bed) PID(host int) (pid int, err error) {
	text, err := os.ReadFile(user.LockPath(b.Rundir(host)))
	if err == nil {
		_, err = fmt.Sscan(string(text), &pid)
	}
	return pid, err
}
