package testscripts

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/klips-go/ipsec/commands"
	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/qemu"
)

// applets are the names under which the binary is installed.
var applets = commands.Names()

// ofFaults are scripts that take minutes: make faults runs them, on each stack. In a guest,
// these are all about failures and packets in clear.
const ofFaults = "^(TestScripts|TestInteropScripts)$/^faults$/^(across|hundred-applies)$|^TestInteropScripts$/^/^(everything|closed|apply|rekey|subnets|default-route|guarded|opens|marks|inbound-clear)$"

// ofKernels are what takes longest in the guests, whose processors are slow: make kernels runs
// it (-longest). ofPlain is what takes longest in the guest of TestKernel.
const (
	ofKernels = "^TestInteropMatrix$|^TestInteropScripts$/^routing$|^TestInteropScripts$/^tunnel$/^(rotation|tos|onekey|align8|path-mtu)$|^TestInteropScripts$/^manual$/^(attach|lengths|mss|others|ports|save|words)$|^TestInteropScripts$/^explain$|^TestInteropScripts$/^xfrm$/^(explain|export|refused|setup|transport|why)$"
	ofPlain   = "^TestInteropStack$"
)

// ofMakeTest is what make test leaves to other targets.
const ofMakeTest = ofFaults + "|" + ofKernels

func TestMain(m *testing.M) {
	// In a guest of TestKernel or TestDeviceKernel, this is the first process.
	qemu.Main()
	ipsec := func() { os.Exit(commands.Main(os.Args)) }
	// The links of withLinks start this program under their own names, which
	// testscript.Main does not know.
	if slices.Contains(links(), filepath.Base(os.Args[0])) {
		ipsec()
	}
	if strings.HasSuffix(filepath.Base(os.Args[0]), ".test") {
		// If an ordinary user gets no namespace, scripts that need hosts are skipped.
		_ = lab.Enter()
		// Arguments of the command line override these.
		_ = flag.Set("test.skip", ofMakeTest)
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.NumCPU()+waitingGuests))
	}
	testscript.Main(withLinks{m}, map[string]func(){
		"ipsec":    ipsec,
		"netns":    netns,
		"status":   status,
		"flood":    flood,
		"web":      web,
		"fetch":    fetch,
		"transfer": transfer,
		"talk":     talk,
	})
}

// links returns the names of the links. Scripts have a program of their own that is called
// status.
func links() (names []string) {
	for _, a := range applets {
		names = append(names, a, "ipsec_"+a)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "status" })
}

// withLinks adds the applets to the directory of programs as an installation does: as
// symbolic links to the one binary.
type withLinks struct{ m *testing.M }

func (w withLinks) Run() int {
	path, err := exec.LookPath("ipsec")
	if err == nil {
		for _, name := range links() {
			if err = os.Symlink("ipsec", filepath.Join(filepath.Dir(path), name)); err != nil {
				break
			}
		}
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return w.m.Run()
}

// TestScripts runs the scripts, a subtest for each folder. Like the guests it runs beside
// other tests: a guest uses one processor, and scripts wait more than they compute.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]bool{}
	for _, f := range files {
		if dir := filepath.Dir(f); dir != "xfrm" { // TestInteropScripts runs those
			dirs[dir] = true
		}
	}
	for dir := range dirs {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, params(dir))
		})
	}
}

// params returns the parameters for the scripts in a folder.
func params(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		Setup:               setup,
		Condition:           condition,
		Cmds:                scriptCommands,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	}
}
