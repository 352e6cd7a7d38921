package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Host is a network namespace and a thread in it.
type Host struct {
	Name string

	ns   *os.File
	jobs chan job
	gone chan struct{}
	once sync.Once
}

type job struct {
	f    func() error
	done chan error
}

// An Option gives a Host more of its own than a network.
type Option func(*setup)

type setup struct {
	private bool
	binds   [][2]string
	tmpfs   []string
}

// Private gives the host its own mounts and host name, which is Name.
func Private() Option { return func(s *setup) { s.private = true } }

// Bind makes the file src visible at dst on the host; dst need not exist. It implies
// [Private].
func Bind(src, dst string) Option {
	return func(s *setup) { s.private = true; s.binds = append(s.binds, [2]string{src, dst}) }
}

// Tmpfs gives the host its own empty directory at dir, which must exist. It implies
// [Private].
func Tmpfs(dir string) Option {
	return func(s *setup) { s.private = true; s.tmpfs = append(s.tmpfs, dir) }
}

// NewHost creates a host. Its loopback is up, and IPv6 addresses work as soon as they
// are added. errors.Is(err, os.ErrPermission) if the caller may not make namespaces.
func NewHost(name string, opts ...Option) (*Host, error) {
	var s setup
	for _, o := range opts {
		o(&s)
	}
	h := &Host{Name: name, jobs: make(chan job), gone: make(chan struct{})}
	ready := make(chan error)
	go h.thread(&s, ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return h, nil
}

// thread is the goroutine that owns the host's thread. It never unlocks the thread: a
// thread in other namespaces must not go back to the scheduler, so it ends.
func (h *Host) thread(s *setup, ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// /proc/self belongs to the main thread, so it must stay in its namespaces.
		// While this goroutine holds it, a new goroutine gets another thread.
		again := make(chan struct{})
		go func() { defer close(again); h.thread(s, ready) }()
		<-again
		runtime.UnlockOSThread()
		return
	}
	defer close(h.gone)
	err := h.enter(s)
	ready <- err
	if err != nil {
		return
	}
	defer h.ns.Close()
	for j := range h.jobs {
		j.done <- j.f()
	}
}

func (h *Host) enter(s *setup) error {
	flags := unix.CLONE_NEWNET
	if s.private {
		flags |= unix.CLONE_NEWUTS
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("new namespaces: %w", err)
	}
	var err error
	if h.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if s.private {
		if err := h.privatise(s); err != nil {
			return err
		}
	}
	if err := upLoopback(); err != nil {
		return err
	}
	// Addresses must work at once, and captures must not contain the messages of IPv6's
	// start. A kernel without IPv6 has none of these files.
	for key, value := range map[string]string{"accept_dad": "0", "dad_transmits": "0", "router_solicitations": "0"} {
		for _, where := range []string{"all", "default"} {
			if err := writeSysctl("net.ipv6.conf."+where+"."+key, value); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func (h *Host) privatise(s *setup) error {
	if err := PrivateMounts(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(h.Name)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	for _, b := range s.binds {
		if err := BindFile(b[0], b[1]); err != nil {
			return err
		}
	}
	for _, dir := range s.tmpfs {
		if err := mountTmpfs(dir); err != nil {
			return err
		}
	}
	return nil
}

// Do runs f on the host's thread and returns its error. f must not start goroutines
// that need the namespaces, and must not call Do. After Close, Do returns os.ErrClosed.
func (h *Host) Do(f func() error) error {
	j := job{f, make(chan error, 1)}
	select {
	case <-h.gone:
		return os.ErrClosed
	default:
	}
	select {
	case h.jobs <- j:
		return <-j.done
	case <-h.gone:
		return os.ErrClosed
	}
}

// Start starts a program in the host's namespaces; wait for it with cmd.Wait. Unless
// cmd changes that, the program is killed when the host is closed. Processes that it
// leaves behind are not.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	return h.Do(cmd.Start)
}

// Output runs a program in the host's namespaces and returns its standard output and
// standard error together.
func (h *Host) Output(cmd *exec.Cmd) (string, error) {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// NetNS returns the path of the network namespace for setns(2), nsenter(1) and similar.
// It is valid until Close, for processes of the same user.
func (h *Host) NetNS() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.ns.Fd())
}

// Sysctl sets one of the host's kernel parameters; the parts of its name are separated
// by dots.
func (h *Host) Sysctl(key, value string) error {
	return h.Do(func() error { return writeSysctl(key, value) })
}

func writeSysctl(key, value string) error {
	// A name with slashes is used unchanged, because the name of a device may contain a
	// dot.
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0)
}

// Close ends the host's thread. The namespaces are removed when they have no more
// processes.
func (h *Host) Close() error {
	h.once.Do(func() { close(h.jobs) })
	<-h.gone
	return nil
}

// RunDir returns the directory of the daemon on a host of a script whose folder is work; "" is
// the machine that runs the tests.
func RunDir(work, host string) string { return filepath.Join(work, "run", host) }
