package main

import (
	"bytes"
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/testscripts/skip"
)

const pageDir = ".."

// global are the options that stand before the command.
var global = []string{"stack", "help", "version"}

func sources(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(pageDir, "*.[578].in"))
	if err != nil || len(list) == 0 {
		t.Fatalf("no page sources: %v", err)
	}
	return list
}

// pageApplet returns the applet that a page describes, such as "spi"; "" for ipsec(8).
func pageApplet(src string) (name, section string) {
	name, section = title(src)
	return strings.TrimPrefix(strings.TrimPrefix(name, "ipsec"), "_"), section
}

func TestUpToDate(t *testing.T) {
	tables := readTables()
	want := map[string]bool{}
	for _, src := range sources(t) {
		out, err := render(src, tables)
		if err != nil {
			t.Error(err)
			continue
		}
		want[target(src)] = true
		have, err := os.ReadFile(target(src))
		if err != nil {
			t.Error(err)
			continue
		}
		if d := gocmp.Diff(string(out), string(have)); d != "" {
			t.Errorf("%s is not what its source makes; run go generate ./manpages (-source +page):\n%s", target(src), d)
		}
	}
	pages, _ := filepath.Glob(filepath.Join(pageDir, "*.[578]"))
	for _, p := range pages {
		if !want[p] {
			t.Errorf("%s has no source", p)
		}
	}
}

// TestPages: every applet has a page.
func TestPages(t *testing.T) {
	for name := range readTables().applets {
		if _, err := os.Stat(filepath.Join(pageDir, "ipsec_"+name+".8.in")); err != nil {
			t.Errorf("applet %s: %v", name, err)
		}
	}
}

// flagMention finds options in mdoc: as macro, in literal text, escaped or not.
var flagMention = regexp.MustCompile(`(?:Fl \\-|\\-\\-|--)([a-z][a-z0-9_]*(?:(?:\\-|-)[a-z0-9_]+)*)`)

// commandMention finds the command of an example line, or of a line of output that is a
// command or advises one, or of a line of a unit file.
var commandMention = regexp.MustCompile(`^(?:# |ExecStart=/usr/sbin/|  (?:mend|next|see) +)?ipsec(?:_| )([a-z_]+)`)

// TestOptions: a page has every option of its applet and no other option.
func TestOptions(t *testing.T) {
	tables := readTables()
	anyHas := func(opt string) bool {
		for _, a := range tables.applets {
			if a.has(opt) {
				return true
			}
		}
		return false
	}
	for _, src := range sources(t) {
		page, err := os.ReadFile(target(src))
		if err != nil {
			t.Error(err)
			continue
		}
		name, section := pageApplet(src)
		own, isApplet := tables.applets[name]
		seen := map[string]bool{}
		cur, inLiteral := "", false // applet of the example line
		for i, line := range strings.Split(string(page), "\n") {
			switch {
			case strings.HasPrefix(line, ".Bd -literal"):
				inLiteral, cur = true, ""
			case strings.HasPrefix(line, ".Ed"):
				inLiteral, cur = false, ""
			}
			if inLiteral && !strings.HasPrefix(line, "    ") {
				cur = "" // not a folded line
				if m := commandMention.FindStringSubmatch(line); m != nil {
					cur = m[1]
				}
			}
			for _, m := range flagMention.FindAllStringSubmatch(line, -1) {
				opt := strings.ReplaceAll(m[1], `\-`, "-")
				var ok bool
				switch {
				case inLiteral && cur != "":
					a := tables.applets[cur]
					ok = a.has(opt)
				case inLiteral:
					ok = false
				case isApplet && section == "8":
					ok = own.has(opt) || slices.Contains(global, opt)
					seen[opt] = true
				default:
					ok = anyHas(opt) || slices.Contains(global, opt)
				}
				if !ok {
					t.Errorf("%s:%d: there is no option --%s: %s", target(src), i+1, opt, line)
				}
			}
		}
		if section != "8" {
			continue
		}
		for _, o := range own.options {
			if !seen[o.name] {
				t.Errorf("%s: --%s is not described", target(src), o.name)
			}
		}
	}
}

// foreign are the manual pages of other programs that our pages refer to.
var foreign = []string{"bash 1", "getrandom 2", "ip 8", "man 1", "nft 8", "ps 1", "sd_notify 3", "sh 1", "systemd 1", "systemd-sysusers 8", "tcpdump 8", "tshark 1"}

var xref = regexp.MustCompile(`(?m)^\.Xr (\S+ \d)`)

func TestReferences(t *testing.T) {
	for _, src := range sources(t) {
		page, err := os.ReadFile(target(src))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range xref.FindAllSubmatch(page, -1) {
			ref := string(m[1])
			if slices.Contains(foreign, ref) {
				continue
			}
			file := filepath.Join(pageDir, strings.Replace(ref, " ", ".", 1)+".in")
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s refers to %s, which is not among the pages", target(src), ref)
			}
		}
	}
}

// seeAlso returns two lists of our pages: those in SEE ALSO of a page, such as
// "ipsec_spi 8", and those that the rest of it names.
func seeAlso(t *testing.T, src string) (list, body []string) {
	t.Helper()
	page, err := os.ReadFile(target(src))
	if err != nil {
		t.Fatal(err)
	}
	text, after, ok := strings.Cut(string(page), "\n.Sh SEE ALSO\n")
	if !ok {
		t.Fatalf("%s has no section SEE ALSO", target(src))
	}
	section, rest, _ := strings.Cut(after, "\n.Sh ")
	ours := func(s string) (refs []string) {
		for _, m := range mention.FindAllStringSubmatch(s, -1) {
			refs = append(refs, m[1])
		}
		return refs
	}
	return ours(section), ours(text + "\n" + rest)
}

// mention finds references to our pages in a line.
var mention = regexp.MustCompile(`\bXr (ipsec\S* \d)`)

// TestSeeAlso: the main page lists all others. A page lists the main page, the page of
// the same name in another section, and every page that it names, in order and once.
func TestSeeAlso(t *testing.T) {
	var all []string
	for _, src := range sources(t) {
		name, section := title(src)
		all = append(all, name+" "+section)
	}
	for _, src := range sources(t) {
		name, section := title(src)
		list, want := seeAlso(t, src)
		if name == "ipsec" {
			want = append(want, all...)
		} else {
			want = append(want, "ipsec 8")
		}
		for _, s := range []string{"5", "8"} {
			if slices.Contains(all, name+" "+s) {
				want = append(want, name+" "+s)
			}
		}
		for _, ref := range want {
			if ref != name+" "+section && !slices.Contains(list, ref) {
				t.Errorf("%s: SEE ALSO lacks %s", target(src), ref)
				list = append(list, ref)
			}
		}
		bySection := func(a, b string) int {
			return cmp.Or(strings.Compare(a[len(a)-1:], b[len(b)-1:]), strings.Compare(a, b))
		}
		if inOrder := slices.Compact(slices.SortedFunc(slices.Values(list), bySection)); !slices.Equal(list, inOrder) {
			t.Errorf("%s: SEE ALSO has %q, want the order %q", target(src), list, inOrder)
		}
	}
}

// TestSpigrpFacts: the page of spigrp has the sections of the original one.
func TestSpigrpFacts(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(pageDir, "ipsec_spigrp.8"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n.Sh FILES\n", "\n.Sh HISTORY\n", "/proc/net/ipsec_spigrp", "/usr/local/bin/ipsec", "Richard Guy Briggs", "FreeS/WAN"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("ipsec_spigrp.8 lacks %q", want)
		}
	}
}

func TestSections(t *testing.T) {
	want := map[string][]string{
		"5": {"NAME", "DESCRIPTION", "EXAMPLES", "SEE ALSO"},
		"8": {"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"},
	}
	for _, src := range sources(t) {
		page, err := os.ReadFile(target(src))
		if err != nil {
			t.Error(err)
			continue
		}
		name, section := pageApplet(src)
		for _, s := range want[section] {
			if !bytes.Contains(page, []byte("\n.Sh "+s+"\n")) {
				t.Errorf("%s has no section %s", target(src), s)
			}
		}
		if section == "8" && name != "" && !bytes.Contains(page, []byte("# ipsec ")) {
			t.Errorf("%s has no example command", target(src))
		}
	}
}

// TestExampleSets: a page shows every set of examples, and every output in it.
func TestExampleSets(t *testing.T) {
	var all strings.Builder
	for _, src := range sources(t) {
		text, err := os.ReadFile(src)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	sets, _ := filepath.Glob(filepath.Join(pageDir, "examples", "*.txtar"))
	for _, path := range sets {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		set, err := readExamples(pageDir, name)
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(all.String(), `{{examples "`+name+`"}}`) {
			t.Errorf("no page shows the examples of %s", path)
		}
		if len(set.examples) == 0 {
			t.Errorf("%s shows nothing", path)
		}
		for file, text := range set.files {
			if text == "" {
				t.Errorf("%s: section %s is empty", path, file)
			}
		}
	}
}

func TestLint(t *testing.T) {
	skip.WithoutProgram(t, skip.Mandoc)
	args := []string{"-T", "lint", "-W", "warning"}
	for _, src := range sources(t) {
		args = append(args, target(src))
	}
	if out, err := exec.Command("mandoc", args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mandoc %s: %v\n%s", strings.Join(args[:4], " "), err, out)
	}
}
