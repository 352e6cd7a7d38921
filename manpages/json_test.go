package manpages

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestReadJSON: what the page does not allow is refused, and the error names its place.
func TestReadJSON(t *testing.T) {
	const member = `{"said":"esp0x100@192.0.2.1","protocol":"esp","spi":256,"destination":"192.0.2.1"}`
	list := func(groups string) string { return `{"schema":1,"stack":"user","spigrp":[` + groups + `]}` }
	group := func(members string) string { return list(`{"direction":"out","members":[` + members + `]}`) }
	for _, c := range []struct{ text, want string }{
		{list(""), ""},
		{group(member), ""},
		{`{"schema":1,"spigrp":[]}`, ""}, // there may be no stack
		{"", "EOF"},
		{"[]", "spigrp: []interface {}, want an object"},
		{list("") + "{}", "something follows the object"},
		{`{"schema":1,"stack":"user"}`, "spigrp: it has no spigrp"},
		{`{"schema":1,"stack":"user","spigrp":null}`, "spigrp.spigrp: <nil>, want an array"},
		{`{"schema":1,"schema":1}`, "schema is there twice"},
		{`{"schema":"1","spigrp":[]}`, "spigrp.schema: 1 (string), want a number"},
		{`{"schema":1.0,"spigrp":[]}`, "spigrp.schema: 1.0 (json.Number), want a number"},
		{`{"schema":-1,"spigrp":[]}`, "spigrp.schema: -1 (json.Number), want a number"},
		{`{"schema":1,"spigrp":[],"groups":[]}`, "spigrp: the page has no groups"},
		{list("7"), "spigrp.spigrp[0]: json.Number, want an object"},
		{list(`{"direction":"out"}`), "spigrp.spigrp[0]: it has no members"},
		{list(`{"direction":true,"members":[]}`), "spigrp.spigrp[0].direction: true (bool), want a string"},
		{group(member + "," + strings.Replace(member, "256", `"256"`, 1)), "spigrp.spigrp[0].members[1].spi: 256 (string), want a number"},
		{group(strings.Replace(member, "said", "SAID", 1)), "spigrp.spigrp[0].members[0]: it has no said\nspigrp.spigrp[0].members[0]: the page has no SAID"},
	} {
		_, err := ReadJSON("spigrp", []byte(c.text))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
	}
	const knobs = `{"schema":1,"stack":"user","setup":[{"running":true,"knobs":{"tos":`
	if _, err := ReadJSON("setup", []byte(knobs+`"1"}}]}`)); err != nil {
		t.Error(err)
	}
	if _, err := ReadJSON("setup", []byte(knobs+`1}}]}`)); err == nil || err.Error() != "setup.setup[0].knobs.tos: 1 (json.Number), want a string" {
		t.Errorf("a knob that is a number: %v", err)
	}
	if _, err := ReadJSON("ranbits", []byte("{}")); err == nil || err.Error() != "ipsec_json(5) does not describe ipsec ranbits" {
		t.Errorf("ranbits: %v", err)
	}
}

// TestDescribed: each type that the page names has a section, and each section, except
// those of the lists, is the type of a field.
func TestDescribed(t *testing.T) {
	sections, err := readSections()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{"Every list": true}
	for name, fields := range sections {
		if len(fields) == 0 {
			t.Errorf("section %s describes no fields", name)
		}
		for _, f := range fields {
			of := strings.TrimPrefix(strings.TrimPrefix(f.typ, "array of "), "object of ")
			switch of {
			case "string", "strings", "number", "numbers", "boolean", "booleans":
				continue
			}
			if _, ok := sections[of]; !ok {
				t.Errorf("%s.%s is of type %s, which has no section", name, f.name, f.typ)
			}
			used[of] = true
		}
	}
	for name := range sections {
		if !used[name] && !strings.HasPrefix(name, "ipsec ") {
			t.Errorf("no field is of type %s", name)
		}
	}
	if len(sections) < 20 {
		t.Errorf("the page has %d sections", len(sections))
	}
}

// TestGolden: the golden files of all applets match the page, and each field of the
// page is in at least one of them.
func TestGolden(t *testing.T) {
	sections, err := readSections()
	if err != nil {
		t.Fatal(err)
	}
	unseen := map[string][]string{} // fields that no file has, by section
	for name, fields := range sections {
		for _, f := range fields {
			unseen[name] = append(unseen[name], f.name)
		}
	}
	// see removes from unseen the fields that a value of a type has.
	var see func(v any, typ string)
	see = func(v any, typ string) {
		typ = strings.TrimPrefix(typ, "array of ")
		if l, ok := v.([]any); ok {
			for _, v := range l {
				see(v, typ)
			}
			return
		}
		o, ok := v.(map[string]any)
		if !ok {
			return
		}
		unseen[typ] = slices.DeleteFunc(unseen[typ], func(name string) bool { return o[name] != nil })
		for _, f := range sections[typ] {
			see(o[f.name], f.typ)
		}
	}
	for _, pattern := range []string{"../commands/*/testdata/*.json", "../commands/internal/*/testdata/*.json"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			// The name of the folder is the applet's name, or the name of the file is.
			applet := filepath.Base(filepath.Dir(filepath.Dir(file)))
			if applet == "output" || applet == "manual" {
				applet, _, _ = strings.Cut(strings.TrimSuffix(filepath.Base(file), ".json"), "-")
			}
			list, err := ReadJSON(applet, text)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			see(list, "ipsec "+applet)
			see(list, "Every list")
		}
	}
	for name, fields := range unseen {
		if len(fields) > 0 {
			t.Errorf("no golden file has %s of section %s", strings.Join(fields, ", "), name)
		}
	}
}
