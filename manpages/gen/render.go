package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/klips-go/ipsec/klips/drop"
)

// date is the .Dd of every page. It is fixed, so that the pages depend only on their
// sources; change it when the pages change.
const date = "November 23, 2026"

// render generates the page from a source such as "manpages/ipsec_spi.8.in".
//
// A source is mdoc(7) from .Sh NAME on, with these actions:
//
//	{{synopsis "spi"}}            the synopsis lines of an applet
//	{{options "spi"}}             its options, as a list
//	{{algorithms "esp"}}          the names that an option takes
//	{{reasons}}                   the reasons for dropped packets, as a list
//	{{examples "spi"}}            all examples of a set
//	{{output "spi" "list.txt"}}   one section of a set, as a display
//	{{json}}                      the lists and objects of package output
//	{{define "--said"}}…{{end}}   more text about an option, for {{options}}
//
// Empty lines are only for the reader of the source.
func render(src string, tables *tables) ([]byte, error) {
	text, err := os.ReadFile(src)
	if err != nil {
		return nil, err
	}
	p := &page{dir: filepath.Dir(src), tables: tables, tmpl: template.New(filepath.Base(src))}
	p.tmpl.Funcs(template.FuncMap{
		"synopsis":   p.synopsis,
		"options":    p.options,
		"algorithms": p.algorithms,
		"reasons":    reasons,
		"examples":   p.examples,
		"output":     p.output,
		"json":       p.jsonObjects,
	})
	if _, err := p.tmpl.Parse(string(text)); err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if err := p.tmpl.Execute(&body, nil); err != nil {
		return nil, err
	}
	if err := p.checkDefines(); err != nil {
		return nil, fmt.Errorf("%s: %w", src, err)
	}

	name, section := title(src)
	var out bytes.Buffer
	fmt.Fprintf(&out, ".\\\" Code generated from %s by manpages/gen. DO NOT EDIT.\n", filepath.Base(src))
	fmt.Fprintf(&out, ".Dd %s\n.Dt %s %s\n.Os\n", date, strings.ToUpper(name), section)
	inLiteral, heading := false, false
	for line := range strings.Lines(body.String()) {
		switch {
		case strings.HasPrefix(line, ".Bd -literal"):
			inLiteral = true
		case strings.HasPrefix(line, ".Ed"):
			inLiteral = false
		}
		line = strings.TrimRight(line, " \n")
		if !inLiteral && (line == "" || line == ".Pp" && heading) {
			continue // mdoc wants neither
		}
		heading = strings.HasPrefix(line, ".Sh ") || strings.HasPrefix(line, ".Ss ")
		out.WriteString(line + "\n")
	}
	return out.Bytes(), nil
}

// A page is a source while it is rendered.
type page struct {
	dir    string
	tables *tables
	tmpl   *template.Template
	used   []string // names of the definitions that were used
}

func (p *page) synopsis(name string) (string, error) {
	a, err := p.tables.applet(name)
	if err != nil {
		return "", err
	}
	var sb strings.Builder
	for _, line := range a.synopsis {
		fmt.Fprintf(&sb, ".Nm ipsec Cm %s\n", escape(name))
		for _, m := range synopsisMacros(line) {
			sb.WriteString(m + "\n")
		}
	}
	return sb.String(), nil
}

func (p *page) options(name string) (string, error) {
	a, err := p.tables.applet(name)
	if err != nil {
		return "", err
	}
	var sb strings.Builder
	sb.WriteString(".Bl -tag -width Ds\n")
	for _, o := range a.options {
		if o.same != "" {
			continue // listed with the option that it is a synonym of
		}
		sb.WriteString(".It " + flag1(o))
		for _, other := range a.options {
			if other.same == o.name {
				sb.WriteString(" , " + flag1(other))
			}
		}
		sb.WriteString("\n" + sentence(o.help) + "\n")
		if t := p.tmpl.Lookup("--" + o.name); t != nil {
			if err := t.Execute(&sb, nil); err != nil {
				return "", err
			}
			sb.WriteString("\n")
			p.used = append(p.used, t.Name())
		}
	}
	sb.WriteString(".El\n")
	return sb.String(), nil
}

// flag1 marks up one option and its value.
func flag1(o option) string {
	s := `Fl \-` + escape(o.name)
	if o.arg != "" {
		s += " Ar " + escape(o.arg)
	}
	return s
}

func (p *page) algorithms(option string) (string, error) {
	list, ok := p.tables.algorithms[option]
	if !ok {
		return "", fmt.Errorf("no list of algorithms for --%s", option)
	}
	var sb strings.Builder
	sb.WriteString(".Bl -tag -width \"chacha20-poly1305\" -compact\n")
	for _, a := range list {
		fmt.Fprintf(&sb, ".It Cm %s\n%s\n", escape(a.Name), prose(a.KeyHelp))
	}
	sb.WriteString(".El\n")
	return sb.String(), nil
}

// reasons returns the list of reasons for dropped packets.
func reasons() string {
	var sb strings.Builder
	sb.WriteString(".Bl -tag -width \"not-delivered\" -compact\n")
	for _, r := range drop.All() {
		meaning := r.Meaning()
		if r.RFC() != "" {
			meaning += " (" + r.RFC() + ")"
		}
		fmt.Fprintf(&sb, ".It Cm %s\n%s\n", escape(r.String()), prose(meaning))
	}
	sb.WriteString(".El\n")
	return sb.String()
}

func (p *page) examples(name string) (string, error) {
	set, err := readExamples(p.dir, name)
	if err != nil {
		return "", err
	}
	var sb strings.Builder
	for i := range set.examples {
		sb.WriteString(set.examples[i].mdoc(set))
	}
	return sb.String(), nil
}

func (p *page) output(name, file string) (string, error) {
	set, err := readExamples(p.dir, name)
	if err != nil {
		return "", err
	}
	text, ok := set.files[file]
	if !ok {
		return "", fmt.Errorf("examples/%s.txtar has no section %q", name, file)
	}
	return ".Bd -literal\n" + display(text) + ".Ed\n", nil
}

// checkDefines returns an error for a definition whose option is in no table.
func (p *page) checkDefines() error {
	for _, t := range p.tmpl.Templates() {
		if !strings.HasPrefix(t.Name(), "--") {
			continue
		}
		found := false
		for _, u := range p.used {
			found = found || u == t.Name()
		}
		if !found {
			return fmt.Errorf("text about %s, which no option list of this page has", t.Name())
		}
	}
	return nil
}
