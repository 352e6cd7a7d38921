package testscripts

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/testscripts/qemu"
)

// This file runs tests of this package in guests whose kernels have IPsec.

// inGuest chooses the tests that TestDeviceKernel runs in its guest.
var inGuest = flag.String("guest", "^Test(GuestRights|Interop(Contract|Stack|Foreign|Concurrent|Collect|Forward|Matrix|Scripts))", "the tests to run in the guest of TestDeviceKernel")

// interopModules are the modules of the kernel's side, including those that the kernel
// would otherwise load with modprobe.
var interopModules = []string{
	"veth", "dummy", "tun", "af_key", "xfrm_user", "esp4", "esp6", "ah4", "ah6", "ipcomp", "ipcomp6", "tunnel4", "tunnel6",
	"xfrm4_tunnel", "xfrm6_tunnel", "authenc", "authencesn", "echainiv", "seqiv", "cbc", "ecb", "des_generic", "aes_generic",
	"crypto_null", "hmac", "md5", "sha1_generic", "sha256_generic", "sha512_generic", "gcm", "ctr", "ghash-generic",
	"nf_tables", "nft_objref", "nft_fib", "nft_fib_ipv4", "nft_fib_ipv6", "nft_fib_inet",
	"sch_ingress", "cls_matchall", "act_nat", "chacha", "chacha_generic", "poly1305_generic", "chacha20poly1305", "deflate", "drbg",
}

// guestTime is how long a guest may take: a multiple of its time on an idle machine.
const guestTime = 50 * time.Minute

// longest chooses what make test leaves to make kernels.
var longest = flag.Bool("longest", false, "run in the guests what takes longest, and nothing else")

// choose returns the arguments for the tests of a guest: run, without what is skipped here and
// the tests of more; or with -longest what is skipped otherwise.
func choose(run, more string) []string {
	if *longest {
		return []string{"-test.run=" + ofKernels + more, "-test.skip=^$"}
	}
	skipped := flag.Lookup("test.skip").Value.String()
	if skipped == ofMakeTest {
		skipped += more
	}
	return []string{"-test.run=" + run, "-test.skip=" + skipped}
}

// guestTools are the programs that the tests and the scripts use.
var guestTools = []string{"sh", "cat", "cp", "grep", "sed", "sleep", "ip", "awk", "cmp", "nice", "seq", "nft", "setsid", "wc", "sort", "taskset", "tc"}

// TestKernel runs TestInterop and related tests under a kernel that has IPsec and no xfrm
// interfaces.
func TestKernel(t *testing.T) {
	t.Parallel()
	need(t, "qemu")
	runInGuest(t, guest{args: choose("^TestInterop", "|"+ofPlain), require: "root,tun,esp,pfkey,xfrm", modules: interopModules, tools: guestTools})
}

// TestDeviceKernel runs the tests of the stack xfrm under a kernel that has xfrm
// interfaces.
func TestDeviceKernel(t *testing.T) {
	t.Parallel()
	need(t, "qemu")
	inDeviceKernel(t, "", choose(*inGuest, ""), scriptTools(t)...)
}

// TestNewerKernel runs tests of the stack xfrm under Linux 6.13 or newer: here those about what
// older kernels do not have, and with -longest all of them.
func TestNewerKernel(t *testing.T) {
	t.Parallel()
	need(t, "qemu", "newer-kernel")
	args := []string{"-test.run=^TestInteropContract$|^TestInteropScripts$/^xfrm$/^(natt|processors)$|^TestInteropScripts$/^tunnel$/^spread$"}
	if *longest {
		args = []string{"-test.run=" + *inGuest, "-test.skip=" + ofFaults}
	}
	inDeviceKernel(t, qemu.Newer, args, scriptTools(t)...)
}

// scriptTools returns the programs for scripts in guests.
func scriptTools(t *testing.T) []string {
	demo := filepath.Join(t.TempDir(), "demo")
	if err := buildStatic("build", "-o", demo, "./demo"); err != nil {
		t.Fatal(err)
	}
	tools := append([]string{demo}, guestTools...)
	if abilities["bird"]() == nil { // otherwise the scripts that need it are skipped, here and in the guest
		tools = append(tools, "bird", "birdc")
	}
	return tools
}

// TestLackingKernel runs TestGuestLacking under a kernel whose modules for ESP are missing.
func TestLackingKernel(t *testing.T) {
	t.Parallel()
	need(t, "qemu")
	have := slices.DeleteFunc(append([]string{"xfrm_interface"}, interopModules...), func(m string) bool { return m == "esp4" || m == "esp6" })
	runInGuest(t, guest{args: []string{"-test.run=^TestGuestLacking$"}, require: "noesp,root,xfrmi", modules: have, tools: guestTools})
}

// BenchmarkDeviceKernel runs the benchmarks of this package under that kernel, and
// prints their results. Its own time is not a result.
func BenchmarkDeviceKernel(b *testing.B) {
	need(b, "qemu")
	for b.Loop() {
		inDeviceKernel(b, "", []string{"-test.run=^$", "-test.bench=^BenchmarkInterop", "-test.benchtime=1x"}, "ip")
	}
}

// inDeviceKernel runs this program in a guest whose kernel, "" or qemu.Newer, has xfrm
// interfaces, with some of the host's tools.
func inDeviceKernel(t testing.TB, kernel string, args []string, tools ...string) {
	require := "demo,nftables,root,tun,xfrm,xfrmi,"
	if kernel == qemu.Newer {
		require += "processors"
	} else {
		require += "nonike"
	}
	runInGuest(t, guest{kernel: kernel, args: args, require: require, modules: append([]string{"xfrm_interface"}, interopModules...), tools: tools})
}

// A guest is a virtual machine in which tests of this package run.
type guest struct {
	args    []string // of the program of the tests
	require string   // the words of REQUIRE there
	modules []string // of the kernel
	tools   []string // programs of the host, see [qemu.Job]
	kernel  string   // as in [qemu.Job]
}

// guests has an element for each guest that runs: for each processor one.
var guests = make(chan struct{}, runtime.NumCPU())

// waitingGuests is how many tests may wait in guests, besides those that run.
const waitingGuests = 2

// guestPrograms is the variable of the environment that names the folder of the programs of this
// project in a guest.
const guestPrograms = "IPSEC_TEST_PROGRAMS"

// runInGuest runs the program of the tests in a guest. If it fails, the last lines of its log
// name the tests that have failed: the log before them is long.
func runInGuest(t testing.TB, g guest) {
	t.Helper()
	guests <- struct{}{}
	defer func() { <-guests }()
	ctx, cancel := context.WithTimeout(context.Background(), guestTime)
	defer cancel()
	// The guest has no C library.
	program := filepath.Join(t.TempDir(), "program")
	if err := buildStatic("test", "-c", "-o", program, "."); err != nil {
		t.Fatal(err)
	}
	args := append(g.args, "-test.timeout="+(guestTime-time.Minute).String())
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	tools := slices.Clone(g.tools)
	for name := range built {
		tools = append(tools, filepath.Join(programs, name))
	}
	env := []string{"REQUIRE=" + g.require, guestPrograms + "=" + qemu.StaticTools}
	var out strings.Builder
	status, err := qemu.Run(ctx, qemu.Job{Program: program, Args: args, Env: env, Modules: g.modules, Tools: tools, Kernel: g.kernel}, &out)
	t.Logf("in the guest:\n%s", &out)
	if err != nil {
		t.Error(err)
	}
	if failed := failures(out.String()); err != nil || status != 0 || failed != "" || !strings.Contains(out.String(), "PASS") {
		t.Errorf("exit status %d\n%s", status, failed)
	}
}

// failure is the line of a test that has failed, or the line where a script has failed.
var failure = regexp.MustCompile(`^\s*(--- FAIL: |FAIL: \S+:\d+: |panic: |fatal error: )`)

// failures returns those lines of a log of tests.
func failures(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if failure.MatchString(line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// buildStatic runs the go command so that its output needs no C library.
func buildStatic(args ...string) error {
	build := exec.Command("go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}
