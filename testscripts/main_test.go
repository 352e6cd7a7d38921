package testscripts

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	if strings.HasSuffix(filepath.Base(os.Args[0]), ".test") {
		// If an ordinary user gets no namespace, scripts that need hosts are skipped.
		_ = lab.Enter()
		// Arguments of the command line override these.
		_ = flag.Set("test.skip", ofMakeTest)
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.NumCPU()+waitingGuests))
	}
	testscript.Main(withPrograms{m}, map[string]func(){
		"flood":    flood,
		"web":      web,
		"fetch":    fetch,
		"transfer": transfer,
		"talk":     talk,
	})
}

// withPrograms adds the programs that are not in this one to the directory of programs.
type withPrograms struct{ m *testing.M }

func (w withPrograms) Run() int {
	path, err := exec.LookPath("flood")
	if err == nil {
		programs = filepath.Dir(path)
		err = addPrograms()
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return w.m.Run()
}

// programs is the directory of programs.
var programs string

// built are programs of this project with the packages that they are built from.
var built = map[string]string{"ipsec": "../cmd/ipsec", "starter": "./starter"}

// addPrograms builds programs, or takes those that a guest has, and makes links to them, as an
// installation does for the applets.
func addPrograms() error {
	for name, from := range built {
		path := filepath.Join(programs, name)
		if guest := os.Getenv(guestPrograms); guest != "" {
			if err := os.Symlink(filepath.Join(guest, name), path); err != nil {
				return err
			}
		} else if err := buildStatic("build", "-buildvcs=false", "-o", path, from); err != nil {
			return err
		}
	}
	links := map[string]string{"netns": "starter", "status": "starter"}
	for _, a := range applets {
		links["ipsec_"+a] = "ipsec"
		if links[a] == "" { // scripts have a program of their own that is called status
			links[a] = "ipsec"
		}
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(programs, name)); err != nil {
			return err
		}
	}
	return nil
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
