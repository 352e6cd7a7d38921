package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/tools/txtar"
)

// An exampleSet is a script of examples, manpages/examples/NAME.txtar, which the tests
// run from its first line to its last. A page shows the lines between "#: caption"
// (more such lines continue the caption) and the next caption, or a line "#.":
//
//	exec COMMAND       the command, without an "&" that the test needs
//	exec sh -c 'TEXT'  the text, as one types it into a shell
//	umask MODE         the same
//	stdin FILE         "< FILE" after the next command
//	cp stdout FILE     "> FILE" after the last command
//	like stdout FILE   the section FILE, as what the last command printed
//	cmp stdout FILE    the same
//
// Everything else (preparation, further checks) is for the test only.
type exampleSet struct {
	examples []example
	files    map[string]string // sections by name
}

// An example is a caption, in mdoc, and the steps under it.
type example struct {
	caption string
	steps   []step
}

// A step is one command and the name of the section with its output; empty: no output.
type step struct {
	command string
	output  string
}

func readExamples(dir, name string) (*exampleSet, error) {
	path := filepath.Join(dir, "examples", name+".txtar")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseExamples(path, data)
}

func parseExamples(path string, data []byte) (*exampleSet, error) {
	ar := txtar.Parse(data)
	set := &exampleSet{files: make(map[string]string)}
	for _, f := range ar.Files {
		set.files[f.Name] = string(f.Data)
	}
	var cur *example
	input := ""
	flush := func() {
		if cur != nil {
			set.examples = append(set.examples, *cur)
		}
		cur = nil
	}
	for i, line := range strings.Split(string(ar.Comment), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#:"):
			text := strings.TrimSpace(line[2:])
			if cur != nil && len(cur.steps) == 0 {
				cur.caption += "\n" + text
				break
			}
			flush()
			cur = &example{caption: text}
		case line == "#.":
			flush()
		case cur == nil:
		case strings.HasPrefix(line, "exec "):
			cmd := strings.TrimPrefix(line, "exec ")
			if fg, ok := strings.CutSuffix(cmd, "&"); ok { // "&" or "&name&": in the background
				cmd, _, _ = strings.Cut(fg, " &")
			}
			if text, ok := strings.CutPrefix(cmd, "sh -c '"); ok && strings.HasSuffix(text, "'") {
				cmd = strings.TrimSuffix(text, "'")
			}
			cur.steps = append(cur.steps, step{command: cmd + input})
			input = ""
		case strings.HasPrefix(line, "umask "):
			cur.steps = append(cur.steps, step{command: line})
		case strings.HasPrefix(line, "stdin "):
			input = " < " + strings.TrimPrefix(line, "stdin ")
		case strings.HasPrefix(line, "cp stdout ") && len(cur.steps) > 0:
			cur.steps[len(cur.steps)-1].command += " > " + strings.TrimPrefix(line, "cp stdout ")
		case strings.HasPrefix(line, "like stdout "), strings.HasPrefix(line, "cmp stdout "):
			file := line[strings.LastIndexByte(line, ' ')+1:]
			if _, ok := set.files[file]; !ok {
				return nil, fmt.Errorf("%s:%d: there is no section %q", path, i+1, file)
			}
			if len(cur.steps) == 0 {
				return nil, fmt.Errorf("%s:%d: output of no command", path, i+1)
			}
			cur.steps[len(cur.steps)-1].output = file
		}
	}
	flush()
	return set, nil
}

// mdoc returns the example in the form for a page.
func (e *example) mdoc(set *exampleSet) string {
	var sb strings.Builder
	if e.caption != "" {
		fmt.Fprintf(&sb, ".Pp\n%s\n", e.caption)
	}
	sb.WriteString(".Bd -literal\n")
	for _, s := range e.steps {
		for _, l := range fold("# "+s.command, ` \`) {
			sb.WriteString(literal(l) + "\n")
		}
		sb.WriteString(display(set.files[s.output]))
	}
	sb.WriteString(".Ed\n")
	return sb.String()
}

// display returns the lines of a section for a literal display. Long lines are folded.
func display(text string) string {
	var sb strings.Builder
	for l := range strings.Lines(text) {
		for _, f := range fold(strings.TrimRight(l, "\n"), "") {
			sb.WriteString(literal(strings.TrimRight(f, " ")) + "\n")
		}
	}
	return sb.String()
}
