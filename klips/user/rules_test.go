package user

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestRules checks that RULES.md has every rule once and that every test it names
// exists.
func TestRules(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile("RULES.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\| (\d+) \| (\S+) \| (.*) \| (.*)\|$`)
	quoted := regexp.MustCompile("`([^`]+)`")
	next := 1
	tests := map[string]map[string]bool{} // by directory
	for line := range strings.Lines(string(text)) {
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| # |") {
				t.Errorf("no row of a rule: %s", line)
			}
			continue
		}
		if m[1] != strconv.Itoa(next) {
			t.Errorf("rule %s, want %d", m[1], next)
		}
		next++
		names := quoted.FindAllStringSubmatch(m[4], -1)
		if (m[2] == "M" || m[2] == "S") && len(names) == 0 {
			t.Errorf("rule %s has no test: %s", m[1], m[3])
		}
		for _, n := range names {
			if strings.HasSuffix(n[1], ".txtar") {
				if _, err := os.Stat(filepath.Join(root, n[1])); err != nil {
					t.Errorf("rule %s: %v", m[1], err)
				}
				continue
			}
			dir, name, _ := strings.Cut(n[1], ".")
			if tests[dir] == nil {
				tests[dir] = testsIn(t, filepath.Join(root, dir))
			}
			if !tests[dir][name] {
				t.Errorf("rule %s: %s has no %s", m[1], dir, name)
			}
		}
	}
	if next != 93 {
		t.Errorf("%d rules, want 92", next-1)
	}
}

// testsIn returns the names of the test functions of a directory.
func testsIn(t *testing.T, dir string) map[string]bool {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range files {
		p, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range p.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}
