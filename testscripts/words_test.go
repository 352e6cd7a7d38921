package testscripts

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

// spoken are the strings below klips/ that name one of our commands, with the reason.
var spoken = map[string]string{
	"ipsec klipsd":    "the alias by which the daemon knows its devices again",
	"ipsec version: ": "the line of /proc/net/ipsec_version begins so",
}

// TestHouseWords: no string below klips/ names an option, an environment variable or a
// command of this program. Those packages also serve other programs: their errors carry
// codes and data (klips.Fault), and commands/internal/explain has the words.
func TestHouseWords(t *testing.T) {
	applets, err := os.ReadDir("../commands")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range applets {
		if a.IsDir() && a.Name() != "internal" {
			names = append(names, a.Name())
		}
	}
	commandLine := regexp.MustCompile(`(^|[^-\w])--[a-z]|\bIPSEC_[A-Z]|\bipsec (` + strings.Join(names, "|") + `)\b`)
	found := map[string]bool{}
	for _, p := range goList(t, "./klips/...") {
		if strings.HasPrefix(p.ImportPath, module+"/klips/klipstest") || strings.HasSuffix(p.ImportPath, "test") {
			continue
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(lit.Value)
				switch {
				case err != nil:
					t.Errorf("%v: %v", fset.Position(lit.Pos()), err)
				case spoken[text] != "":
					found[text] = true
				case commandLine.MatchString(text):
					t.Errorf("%v speaks of the command line: %s", fset.Position(lit.Pos()), lit.Value)
				}
				return true
			})
		}
	}
	for text := range spoken {
		if !found[text] {
			t.Errorf("no string below klips/ is %q any more", text)
		}
	}
}
