package testscripts

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/klips-go/ipsec/commands"
	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/qemu"
	"github.com/klips-go/ipsec/testscripts/uml"
)

// applets are the names under which the binary is installed.
var applets = commands.Names()

// ofFaults are scripts that take minutes: make faults runs them, on each stack. In a guest,
// these are all about failures and packets in clear.
const ofFaults = "^(TestScripts|TestInteropScripts)$/^faults$/^across$|^TestInteropScripts$/^/^(everything|closed|default-route|guarded|opens|marks|inbound-clear)$"

func TestMain(m *testing.M) {
	// In a guest of TestKernel or TestDeviceKernel, this is the first process.
	uml.Main()
	qemu.Main()
	ipsec := func() { os.Exit(commands.Main(os.Args)) }
	// The links of withLinks start this program under their own names, which
	// testscript.Main does not know.
	for _, a := range applets {
		if name := filepath.Base(os.Args[0]); name == a || name == "ipsec_"+a {
			ipsec()
		}
	}
	if strings.HasSuffix(filepath.Base(os.Args[0]), ".test") {
		// If an ordinary user gets no namespace, scripts that need hosts are skipped.
		_ = lab.Enter()
		_ = flag.Set("test.skip", ofFaults) // an argument of the command line overrides it
	}
	testscript.Main(withLinks{m}, map[string]func(){
		"ipsec":    ipsec,
		"netns":    netns,
		"status":   status,
		"flood":    flood,
		"web":      web,
		"transfer": transfer,
		"talk":     talk,
	})
}

// withLinks adds the applets to the directory of programs as an installation does: as
// symbolic links to the one binary.
type withLinks struct{ m *testing.M }

func (w withLinks) Run() int {
	path, err := exec.LookPath("ipsec")
	if err == nil {
		for _, a := range applets {
			for _, name := range []string{a, "ipsec_" + a} {
				if err = os.Symlink("ipsec", filepath.Join(filepath.Dir(path), name)); err != nil {
					break
				}
			}
		}
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return w.m.Run()
}

// TestScripts runs the scripts, a subtest for each folder.
func TestScripts(t *testing.T) {
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
