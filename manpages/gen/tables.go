package main

import (
	"fmt"
	"slices"

	"github.com/klips-go/ipsec/commands"
	"github.com/klips-go/ipsec/klips/syntax"
)

// tables holds what the program knows about itself.
type tables struct {
	applets    map[string]applet
	algorithms map[string][]syntax.AlgName // by the option that takes them
}

// An applet is the part of a command's table that pages need.
type applet struct {
	name     string
	synopsis []string
	options  []option
	operands []string // possible values
}

// An option is one long option.
type option struct {
	name string // without dashes
	arg  string // empty: it takes no value
	help string
	same string // the option that it is a synonym of, if any
}

func readTables() *tables {
	t := &tables{
		applets: make(map[string]applet),
		algorithms: map[string][]syntax.AlgName{
			"esp":  syntax.ESPNames(),
			"ah":   syntax.AHNames(),
			"comp": syntax.CompNames(),
		},
	}
	for _, app := range commands.Apps() {
		a := applet{name: app.Name, synopsis: app.Synopsis, operands: app.Operands}
		for _, o := range app.Options {
			a.options = append(a.options, option{name: o.Name, arg: o.Arg, help: o.Help, same: o.Same})
		}
		t.applets[a.name] = a
	}
	return t
}

func (t *tables) applet(name string) (applet, error) {
	a, ok := t.applets[name]
	if !ok {
		return applet{}, fmt.Errorf("there is no applet %q", name)
	}
	return a, nil
}

// has reports whether the applet has the option.
func (a applet) has(option string) bool {
	for _, o := range a.options {
		if o.name == option {
			return true
		}
	}
	return false
}

// printsJSON reports whether the applet has the option --json, or a format of that name.
func (a applet) printsJSON() bool { return a.has("json") || slices.Contains(a.operands, "json") }
