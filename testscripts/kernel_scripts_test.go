package testscripts

import (
	"embed"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm"
	"github.com/klips-go/ipsec/testscripts/bed"
)

// kernelScripts are the scripts for the kernel's own stack. They are embedded, because
// a guest does not have their folders.
//
//go:embed tunnel/*.txtar xfrm/*.txtar routing/ospf2.txtar routing/ospf3.txtar routing/others.txtar manual/others.txtar manual/attach.txtar manual/up.txtar manual/masterkey.txtar manual/shunts.txtar manual/transport.txtar manual/closed.txtar manual/guarded.txtar manual/default-route.txtar manual/rekey.txtar manual/apply.txtar manual/words.txtar manual/subnets.txtar manual/hook.txtar manual/ports.txtar manual/save.txtar manual/lengths.txtar manual/mss.txtar manual/ims.txtar faults/hundred-applies.txtar faults/everything.txtar faults/across.txtar tncfg/closed.txtar setup/opens.txtar explain/metrics.txtar explain/top.txtar explain/trace.txtar explain/monitor.txtar explain/capture.txtar
var kernelScripts embed.FS

// haveInterfaces reports why the kernel's stack has no xfrm interfaces, or nil.
func haveInterfaces() error {
	return bed.TryXfrm(func(s *xfrm.Stack) error {
		if !s.Has(klips.CapReject) { // which needs them
			return errors.New("no module xfrm_interface")
		}
		return nil
	})
}

// haveProcessors reports why the kernel's stack has no SAs for one processor, or nil.
func haveProcessors() error {
	return bed.TryXfrm(func(s *xfrm.Stack) error {
		if !s.Has(klips.CapAlso) {
			return errors.New("Linux 6.13 has them")
		}
		return nil
	})
}

// haveNonIKE reports why the kernel takes no ESP out of UDP with a non-IKE marker, or nil.
func haveNonIKE() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_ESPINUDP_NON_IKE)
}

// haveNoESP reports why the kernel's stack has ESP, or cannot be asked; nil: it has none.
func haveNoESP() error {
	err := haveXfrm()
	switch {
	case errors.Is(err, syscall.EPROTONOSUPPORT):
		return nil
	case err == nil:
		return errors.New("this kernel has ESP")
	}
	return err
}

// TestGuestLacking runs a script about the stack xfrm of a kernel whose ESP is missing.
func TestGuestLacking(t *testing.T) {
	need(t, "root", "noesp")
	t.Setenv("IPSEC_STACK", "xfrm")
	const script = "lacking.txtar"
	text, err := kernelScripts.ReadFile("xfrm/" + script)
	dir := t.TempDir()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, script), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, params(dir))
}

// onKernelStack is the condition onkernel, which holds in TestInteropScripts.
func onKernelStack() error {
	if os.Getenv("IPSEC_STACK") != "xfrm" {
		return errors.New("the commands of this run are not for the kernel's stack")
	}
	return nil
}

// TestInteropScripts: scripts for the embedded stack run unchanged on the kernel's own
// stack. That stack also has scripts of its own.
func TestInteropScripts(t *testing.T) {
	need(t, "root", "xfrm", "xfrmi")
	t.Setenv("IPSEC_STACK", "xfrm")
	for _, dir := range []string{"tunnel", "xfrm", "routing", "manual", "faults", "tncfg", "setup", "explain"} {
		t.Run(dir, func(t *testing.T) {
			testscript.Run(t, params(unpack(t, dir)))
		})
	}
}

// unpack writes the scripts of a folder to another one.
func unpack(t *testing.T, dir string) string {
	to := t.TempDir()
	entries, err := kernelScripts.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := kernelScripts.ReadFile(dir + "/" + e.Name())
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}
