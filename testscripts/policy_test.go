package testscripts

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite golden files")

// module is the path of this module.
const module = "github.com/klips-go/ipsec"

// forbidden are packages that must not be in the binary, with the reason.
var forbidden = map[string]string{
	"github.com/google/gopacket":   "5 ms of start-up in package initialisation",
	"github.com/gopacket/gopacket": "0.6 ms of start-up; packets are read by our own byte views",
	"net/http":                     "0.5 ms of start-up, and a large surface for a program that runs as root",
	"crypto/tls":                   "0.2 ms of start-up; nothing here speaks TLS",
	"testing":                      "it registers flags, and belongs to tests",
	"golang.zx2c4.com/wireguard":   "only tests compare with it",
	module + "/testscripts/lab":    "test code",
}

type goPackage struct {
	ImportPath, Dir            string
	GoFiles, CgoFiles, Imports []string
	Module                     *struct{ Path string }
}

// goList runs go list -json in the root of the module.
func goList(t *testing.T, args ...string) (list []goPackage) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// TestPackageDoc: every package has one package comment.
func TestPackageDoc(t *testing.T) {
	for _, p := range goList(t, "./...") {
		var with []string
		for _, f := range append(p.GoFiles, p.CgoFiles...) {
			src, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if hasPackageDoc(string(src)) {
				with = append(with, f)
			}
		}
		switch {
		case len(p.GoFiles)+len(p.CgoFiles) == 0:
		case len(with) == 0:
			t.Errorf("%s has no package comment", p.ImportPath)
		case len(with) > 1:
			t.Errorf("%s has package comments in %s: one is enough", p.ImportPath, strings.Join(with, ", "))
		}
	}
}

// hasPackageDoc reports whether a comment is right before the package clause.
func hasPackageDoc(src string) bool {
	lines := strings.Split(src, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "package ") {
			if i == 0 {
				return false
			}
			before := lines[i-1]
			return strings.HasSuffix(before, "*/") || strings.HasPrefix(before, "//") && !strings.HasPrefix(before, "//go:")
		}
	}
	return false
}

// TestDeps: forbidden packages are not in the binary, and a change of its modules is
// visible in a diff.
func TestDeps(t *testing.T) {
	var modules []string
	imports := map[string][]string{} // package to its importers
	for _, p := range goList(t, "-deps", "./cmd/ipsec") {
		for _, i := range p.Imports {
			imports[i] = append(imports[i], p.ImportPath)
		}
		if p.Module != nil && p.Module.Path != module && !slices.Contains(modules, p.Module.Path) {
			modules = append(modules, p.Module.Path)
		}
	}
	for path, why := range forbidden {
		for pkg, by := range imports {
			if pkg == path || strings.HasPrefix(pkg, path+"/") {
				t.Errorf("the binary imports %s (%s), through %s", pkg, why, strings.Join(by, ", "))
			}
		}
	}
	slices.Sort(modules)
	got := strings.Join(modules, "\n") + "\n"
	golden := filepath.Join("testdata", "modules.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("modules in the binary:\n%swant\n%sIf that is meant: go test ./testscripts -run TestDeps -update", got, want)
	}
}

// TestHouse: the map of the house in CONTRIBUTING.md has every package, and nothing
// else. NAME in it stands for any one name, {a,b} for each of them, and a name in
// parentheses is a folder below the entry.
func TestHouse(t *testing.T) {
	text, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, house, found := strings.Cut(string(text), "## The house\n\n")
	house, _, end := strings.Cut(house, "\n\n")
	if !found || !end {
		t.Fatal("CONTRIBUTING.md has no map of the house")
	}
	var dirs []string
	for _, p := range goList(t, "./...") {
		dirs = append(dirs, strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/"))
	}
	unseen := slices.Clone(dirs)
	see := func(pattern string) {
		re := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), "NAME", "[^/]+") + "$")
		if !slices.ContainsFunc(dirs, re.MatchString) {
			t.Errorf("the map has %s, which is no package", pattern)
		}
		unseen = slices.DeleteFunc(unseen, re.MatchString)
	}
	below := regexp.MustCompile(`\((\w+)/\)`)
	var entry string
	for line := range strings.Lines(house) {
		if first, _, _ := strings.Cut(strings.TrimPrefix(line, "    "), "/ "); !strings.HasPrefix(first, " ") {
			entry = strings.TrimSuffix(strings.TrimSpace(first), "/")
			before, list, group := strings.Cut(entry, "{")
			if !group {
				see(entry)
			} else {
				for name := range strings.SplitSeq(strings.TrimSuffix(list, "}"), ",") {
					see(before + name)
				}
			}
		}
		for _, m := range below.FindAllStringSubmatch(line, -1) {
			see(entry + "/" + m[1])
		}
	}
	if len(unseen) > 0 {
		t.Errorf("the map of the house in CONTRIBUTING.md lacks %s", strings.Join(unseen, ", "))
	}
}

// TestScriptFiles: the files in each script's archive have unique names and are all
// used, and the script begins with a sentence about what it shows.
func TestScriptFiles(t *testing.T) {
	files, err := filepath.Glob("*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		script := string(ar.Comment)
		if first, _, _ := strings.Cut(script, "\n"); !strings.HasPrefix(first, "# ") || !strings.HasSuffix(first, ".") {
			t.Errorf("%s: the first line is not a sentence: %q", file, first)
		}
		seen := map[string]bool{"hosts": true}
		for _, f := range ar.Files {
			if f.Name != "hosts" && seen[f.Name] {
				t.Errorf("%s: two files are named %s", file, f.Name)
			}
			seen[f.Name] = true
			used := f.Name == "hosts" || strings.Contains(script, f.Name)
			for _, g := range ar.Files {
				used = used || g.Name != f.Name && strings.Contains(string(g.Data), f.Name)
			}
			if !used {
				t.Errorf("%s: nothing uses the file %s", file, f.Name)
			}
		}
		if name := filepath.Base(file); name != strings.ToLower(name) || strings.ContainsAny(name, "_ ") {
			t.Errorf("%s: script names are lower case with hyphens", file)
		}
	}
}
