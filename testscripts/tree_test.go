package testscripts

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/testscripts/skip"
)

// root is the root of the repository, relative to this directory.
const root = ".."

// eachFile calls f for the files of the repository whose paths match, with the path
// below the root.
func eachFile(t *testing.T, match func(path string) bool, f func(path, text string)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel == ".git" || rel == ".cache" || rel == "bin" || rel == "dist" {
				return fs.SkipDir
			}
			return nil
		}
		if !match(filepath.ToSlash(rel)) {
			return nil
		}
		n++
		text, err := os.ReadFile(path)
		f(filepath.ToSlash(rel), string(text))
		return err
	})
	if err != nil || n == 0 {
		t.Fatalf("%d files, %v", n, err)
	}
}

func isGo(path string) bool     { return strings.HasSuffix(path, ".go") }
func isScript(path string) bool { return strings.HasSuffix(path, ".txtar") }

// eachCall calls f for every call of a method or of a package's function in a Go file.
// discards reports whether the call is inside the function that is given to F.Fuzz.
func eachCall(t *testing.T, path, text string, f func(line int, fun *ast.SelectorExpr, args []ast.Expr, discards bool)) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var visit func(n ast.Node, discards bool)
	visit = func(n ast.Node, discards bool) {
		ast.Inspect(n, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fun, ok := c.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			f(set.Position(c.Pos()).Line, fun, c.Args, discards)
			visit(fun.X, discards)
			for _, a := range c.Args {
				visit(a, discards || fun.Sel.Name == "Fuzz")
			}
			return false
		})
	}
	visit(file, false)
}

// TestSkips: only package skip skips a test, and a script is skipped only by one of its
// words, so that REQUIRE can forbid it. A fuzz target may discard inputs. A script may
// stop on all machines, or for the kernel's stack, because this does not depend on
// missing requirements.
func TestSkips(t *testing.T) {
	eachFile(t, isGo, func(path, text string) {
		if strings.HasPrefix(path, "testscripts/skip/") {
			return
		}
		eachCall(t, path, text, func(line int, fun *ast.SelectorExpr, _ []ast.Expr, discards bool) {
			switch fun.Sel.Name {
			case "Skip", "Skipf", "SkipNow":
				if !discards {
					t.Errorf("%s:%d skips a test itself; use package testscripts/skip", path, line)
				}
			}
		})
	})
	allowed := regexp.MustCompile(`^\[!(\w+)\] (skip|stop) '[^']+'$|^(\[onkernel\] )?stop '[^']+'$`)
	command := regexp.MustCompile(`(^|\] +)(skip|stop)\b`)
	eachFile(t, isScript, func(path, text string) {
		script, _, _ := strings.Cut(text, "\n-- ") // the files of the archive are not run
		for i, line := range strings.Split(script, "\n") {
			if strings.HasPrefix(line, "#") {
				continue
			}
			if strings.HasPrefix(line, "[exec:") || strings.HasPrefix(line, "[!exec:") {
				t.Errorf("%s:%d: %s: REQUIRE does not know the condition; use a word of package testscripts/skip", path, i+1, line)
			}
			if !command.MatchString(line) {
				continue
			}
			m := allowed.FindStringSubmatch(line)
			if m == nil || m[1] != "" && skip.Word(m[1]).Meaning() == "" {
				t.Errorf("%s:%d: %s: not of the form [!word] skip 'why' with a word of package testscripts/skip", path, i+1, line)
			}
		}
	})
}

// inGuests are the words that the runs in guests require; the machine itself may lack
// them.
var inGuests = []skip.Word{skip.Demo, skip.ESP, skip.NoESP, skip.NonIKE, skip.PFKEY, skip.Processors, skip.Xfrm, skip.Xfrmi}

// ofPackages is the word that only make test-pkg fulfils: make test builds no packages.
const ofPackages = skip.Packages

// TestRequireAll: CONTRIBUTING.md lists the words of REQUIRE, and continuous
// integration requires all words that are not for guests or for make test-pkg.
func TestRequireAll(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	m := regexp.MustCompile(`(?m)^export REQUIRE=(\S+)$`).FindStringSubmatch(read(".ci/run"))
	if m == nil {
		t.Fatal(".ci/run does not export REQUIRE")
	}
	var want []string
	if !strings.Contains(read(".ci/run"), "\nREQUIRE=$REQUIRE,"+string(ofPackages)+" make test-pkg\n") {
		t.Errorf(".ci/run does not require %s of make test-pkg", ofPackages)
	}
	guide := read("CONTRIBUTING.md")
	for _, w := range skip.Words() {
		if !slices.Contains(inGuests, w) && w != ofPackages {
			want = append(want, string(w))
		}
		if !strings.Contains(guide, "| `"+string(w)+"` | "+w.Meaning()+" |\n") {
			t.Errorf("CONTRIBUTING.md does not list %s as %s", w, w.Meaning())
		}
	}
	if w := strings.Join(want, ","); m[1] != w {
		t.Errorf(".ci/run requires\n%s, want\n%s", m[1], w)
	}
}

// beside is the name of a folder beside the repository that once held recordings. It is
// written in two parts, so that the test does not find it here.
const beside = "sha" + "red"

var machinePath = regexp.MustCompile(`(^|[\s"'=:(])/(` + `work|home|mnt|srv|Users)/\w`)

// namesOutside reports whether a line names a path of one machine.
func namesOutside(line string) bool {
	return strings.Contains(line, "../"+beside) || machinePath.MatchString(line)
}

// TestReadsInside: nothing in the repository reads files outside of it, because another
// clone does not have them.
func TestReadsInside(t *testing.T) {
	eachFile(t, func(path string) bool {
		return isGo(path) || isScript(path) || path == "Makefile" || strings.HasPrefix(path, ".ci/") ||
			strings.HasSuffix(path, ".sh") || strings.HasSuffix(path, ".py")
	}, func(path, text string) {
		for i, line := range strings.Split(text, "\n") {
			if namesOutside(line) {
				t.Errorf("%s:%d names a place outside of the repository: %s", path, i+1, strings.TrimSpace(line))
			}
		}
		if isGo(path) {
			for line, name := range leaving(t, path, text) {
				t.Errorf("%s:%d: %s is outside of the repository", path, line, name)
			}
		}
	})
}

// leaving returns, by line, the paths in a Go file that lead out of the root:
// "../../x", filepath.Join("..", "..", "x"), filepath.Join(dir, "..", "x").
func leaving(t *testing.T, path, text string) map[int]string {
	found := map[int]string{}
	depth := strings.Count(path, "/")
	functions := []string{"Join", "Open", "ReadFile", "ReadDir", "Abs", "Stat", "DirFS", "Glob"}
	eachCall(t, path, text, func(line int, fun *ast.SelectorExpr, args []ast.Expr, _ bool) {
		if !slices.Contains(functions, fun.Sel.Name) {
			return
		}
		var parts []string
		for _, a := range args {
			part := "variable"
			if lit, ok := a.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				var err error
				if part, err = strconv.Unquote(lit.Value); err != nil {
					t.Fatal(err)
				}
			}
			parts = append(parts, part)
		}
		name := filepath.ToSlash(filepath.Join(parts...))
		ups := strings.Count(name+"/", "../")
		if strings.HasPrefix(name, "..") && ups > depth || slices.Contains(parts, beside) {
			found[line] = name
		}
	})
	return found
}

// TestLeaving: the rules of TestReadsInside find what they should.
func TestLeaving(t *testing.T) {
	const head = "package p\n\nvar _ = "
	for expr, want := range map[string]bool{
		`filepath.Join("..", "..", "x")`:                  true,
		`filepath.Join("..", "x")`:                        false,
		`os.Open("../../x")`:                              true,
		`os.Open("../x/../../y")`:                         true,
		`os.Open("../x/../y")`:                            false,
		`filepath.Join(dir, "..", "` + beside + `", "x")`: true,
		`f(os.Stat(filepath.Join("../..", name)))`:        true,
	} {
		if got := leaving(t, "klips/x_test.go", head+expr+"\n"); (len(got) > 0) != want {
			t.Errorf("%s: found %v, want %v", expr, got, want)
		}
	}
	for line, want := range map[string]bool{
		"exec cat ../" + beside + "/x": true, "cd /" + "home/somebody": true, "open('/" + "work/x')": true,
		"exec cat ../x": false, "cp x $WORK/home/y": false, "a/home/b": false,
	} {
		if got := namesOutside(line); got != want {
			t.Errorf("%s: found %v, want %v", line, got, want)
		}
	}
}
