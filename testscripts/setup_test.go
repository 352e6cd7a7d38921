package testscripts

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/qemu"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// world holds everything that a script has made besides files.
type world struct {
	work     string
	t        testscript.T
	hosts    map[string]*lab.Host
	captures map[string]*lab.Capture // by absolute file name
	closers  []func()
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// host returns a host of the script, or fails the script.
func host(ts *testscript.TestScript, name string) *lab.Host {
	h := worldOf(ts).hosts[name]
	if h == nil {
		ts.Fatalf("no host %q: use addns", name)
	}
	return h
}

func setup(env *testscript.Env) error {
	w := &world{work: env.WorkDir, t: env.T(), hosts: map[string]*lab.Host{}, captures: map[string]*lab.Capture{}}
	env.Values[worldKey{}] = w
	env.Setenv("IPSEC_RUNDIR", lab.RunDir(w.work, ""))
	env.Setenv("NETNS", filepath.Join(w.work, ".netns"))
	env.Setenv("WORK", w.work)
	// If the kernel has ESP, a command would use the kernel's stack when no daemon
	// runs.
	env.Setenv("IPSEC_STACK", cmp.Or(os.Getenv("IPSEC_STACK"), "user"))
	env.Setenv("LC_ALL", "C")
	env.Setenv("TZ", "UTC")
	if err := os.Mkdir(filepath.Join(w.work, ".netns"), 0o755); err != nil {
		return err
	}
	env.Defer(w.end)
	return nil
}

// end stops the programs of the script and removes its hosts.
func (w *world) end() {
	for _, f := range w.closers {
		f()
	}
	for _, c := range w.captures {
		c.Stop()
	}
	w.stopDaemon("", nil)
	for name, h := range w.hosts {
		w.stopDaemon(name, h)
		for _, pid := range processesIn(h) {
			w.t.Log(fmt.Sprintf("process %d is left on host %s: killed", pid, name))
			unix.Kill(pid, unix.SIGKILL)
		}
		h.Close()
	}
}

// stopDaemon stops the daemon of a host in the same way as a user does.
func (w *world) stopDaemon(name string, h *lab.Host) {
	dir := lab.RunDir(w.work, name)
	if entries, _ := os.ReadDir(dir); len(entries) == 0 {
		return
	}
	ipsec, err := exec.LookPath("ipsec")
	if err != nil {
		return
	}
	cmd := exec.Command(ipsec, "setup", "stop")
	cmd.Env = append(os.Environ(), "IPSEC_RUNDIR="+dir)
	if h == nil {
		cmd.Run() // fails without a daemon; in both cases nothing is left
		return
	}
	daemon := daemonIn(dir)
	if out, err := h.Output(cmd); err != nil {
		w.t.Log(fmt.Sprintf("setup stop on host %s: %v\n%s", name, err, out))
	}
	// The daemon removes its devices and releases its lock a moment before it ends.
	if daemon != nil && !awaitEnd(daemon) {
		w.t.Fatal(fmt.Sprintf("the daemon of host %s does not end", name))
	}
}

// processesIn lists the processes in a host's network namespace.
func processesIn(h *lab.Host) (pids []int) {
	own, err := os.Stat(h.NetNS())
	if err != nil {
		return nil
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if ns, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && os.SameFile(own, ns) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// daemonIn returns a file that becomes readable when the daemon of a run directory
// ends; nil if none runs.
func daemonIn(dir string) *os.File {
	d, err := user.OpenDir(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	pid, err := d.Holder()
	if err != nil || pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "pidfd")
}

// awaitEnd waits until the process has ended, and reports whether it has.
func awaitEnd(pidfd *os.File) bool {
	defer pidfd.Close()
	const patience = 60_000 // ms; only a failure takes so long
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, patience)
		if err != unix.EINTR {
			return n == 1
		}
	}
}

// abilities are the conditions. Each function returns the reason why its condition does
// not hold. It is called at most once, when a test first needs it.
var abilities = map[string]func() error{
	"root": sync.OnceValue(func() error {
		h, err := lab.NewHost("probe")
		if err != nil {
			return err
		}
		return h.Close()
	}),
	"tun":       sync.OnceValue(lab.CanTUN),
	"tracepath": program("tracepath"),
	"mtr":       program("mtr"),
	"tcpdump":   program("tcpdump"),
	"tshark":    program("tshark"),
	"scapy": sync.OnceValue(func() error {
		if out, err := exec.Command("/usr/bin/python3", "-c", "import scapy.layers.ipsec, cryptography").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}),
	"setpriv":  program("setpriv"),
	"bird":     program("bird", "birdc"),
	"frr":      program("/usr/lib/frr/zebra", "/usr/lib/frr/ospf6d", "vtysh"),
	"flock":    program("flock"),
	"ip":       program("ip"),
	"ping":     program("ping"),
	"demo":     program("demo"),
	"nftables": sync.OnceValue(haveNFTables),
	"qemu":     sync.OnceValue(func() error { return qemu.Available("") }),
	"xfrm":     sync.OnceValue(haveXfrm),
	"xfrmi":    sync.OnceValue(haveInterfaces),
	// A kernel of Linux 6.13 or newer for guests, and what such a kernel has and has not.
	"newer-kernel": sync.OnceValue(func() error { return qemu.Available(qemu.Newer) }),
	"processors":   sync.OnceValue(haveProcessors),
	"nonike":       sync.OnceValue(haveNonIKE),
	// The commands of a script go to the kernel's own stack.
	"onkernel": onKernelStack,
	"esp":      sync.OnceValue(haveESP),
	"noesp":    sync.OnceValue(haveNoESP),
	"pfkey":    sync.OnceValue(havePFKEY),
	"users":    sync.OnceValue(haveUsers),
	"pty": sync.OnceValue(func() error {
		f, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}),
	"userns": sync.OnceValue(haveUserNS),
	"cgroup": sync.OnceValue(func() error {
		_, remove, err := lab.MemoryGroup(1 << 30)
		if err != nil {
			return err
		}
		return remove()
	}),
}

// program returns the ability that programs are installed.
func program(names ...string) func() error {
	return sync.OnceValue(func() error {
		for _, name := range names {
			if _, err := exec.LookPath(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// haveUsers returns the reason why this process cannot become another user, or nil.
func haveUsers() error {
	if os.Geteuid() != 0 || lab.InUserNS() {
		return errors.New("not root")
	}
	return nil
}

// haveNFTables returns the reason why there is no nftables, or nil.
func haveNFTables() error {
	if _, err := exec.LookPath("nft"); err != nil {
		return err
	}
	h, err := lab.NewHost("probe")
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = h.Output(exec.Command("nft", "list", "ruleset"))
	return err
}

// condition evaluates the [condition]s of scripts. A condition in REQUIRE must hold.
func condition(name string) (bool, error) {
	f, ok := abilities[name]
	if !ok {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	err := f()
	if err == nil || name == "onkernel" { // onkernel depends on the run and is never missing
		return err == nil, nil
	}
	required, rerr := skip.Required(skip.Word(name))
	switch {
	case rerr != nil:
		return false, rerr
	case required:
		return false, fmt.Errorf("REQUIRE names %s, and it is missing: %w", name, err)
	}
	return false, nil
}

// need skips a Go test if an ability is missing, or fails it if REQUIRE names the
// ability.
func need(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := abilities[name](); err != nil {
			skip.Without(t, skip.Word(name), err)
		}
	}
}
