// Package barf is the applet that collects everything which a helper needs, without keys.
package barf

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/ends"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/keyfile"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/manual/conf"
)

// App returns the applet. It runs the applets of those entries that it needs.
func App(entries []cli.Entry) *cli.App { return app(entries, system{}) }

// app returns the applet for a machine.
func app(entries []cli.Entry, m machine) *cli.App {
	a := &cli.App{
		Name:     "barf",
		Short:    "collect everything that a helper needs, without keys",
		Synopsis: []string{"[--out FILE | --tar FILE | --json]"},
		Options: append([]getopt.Option{
			{Name: "out", Arg: "FILE", Help: "write the text to the new file FILE that only its owner can read", Values: []string{"<file>"}},
			{Name: "tar", Arg: "FILE", Help: "write a tar archive with a file for each section instead, likewise", Values: []string{"<file>"}},
			cli.JSONOption("only what can be compared with the other end"),
		}, cli.CommonOptions()...),
	}
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		r := &request{entries: entries, machine: m}
		err := r.Parse(a.Options, args, getopt.EnvMode(env.Getenv), r.option)
		if err == nil && (r.out != "" && r.tar != "" || r.JSON && r.out+r.tar != "") {
			err = cli.Usagef("only one of --out, --tar and --json can be given; --tar has the JSON in a file of its own")
		}
		return r.Command(env, func() *cli.App { return a }, err, cli.Func(r.run))
	}
	return a
}

// A request is a parsed command line.
type request struct {
	cli.Common
	entries  []cli.Entry
	machine  machine
	out, tar string // files; empty: standard output
}

func (r *request) option(name, value string) error {
	if value == "" {
		return cli.Usagef("--%s: there is no file name", name)
	}
	if name == "tar" {
		r.tar = value
	} else {
		r.out = value
	}
	return nil
}

func (r *request) run(ctx context.Context, env *cli.Env) error {
	facts := r.facts(ctx, env)
	if r.JSON {
		return output.Print(env, facts)
	}
	sections, err := r.sections(ctx, env)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := output.Print(&cli.Env{Out: &b}, facts); err != nil {
		return err
	}
	sections = append(sections, section{name: ends.JSONSection, text: b.String()})
	at := r.machine.now()
	switch {
	case r.tar != "":
		archive, err := archive(sections, at)
		if err != nil {
			return err
		}
		return keyfile.Create(r.tar, archive)
	case r.out != "":
		var text bytes.Buffer
		writeText(&text, sections, at)
		return keyfile.Create(r.out, text.Bytes())
	}
	return cli.Print(env, func(w io.Writer) error {
		writeText(w, sections, at)
		return nil // Print has the error of its buffer
	})
}

// A section is a part of the text, or a file of the archive.
type section struct {
	name string
	text string
}

// writeText prints all sections, each after a line with its name.
func writeText(w io.Writer, sections []section, at time.Time) {
	fmt.Fprintf(w, "ipsec barf of %s\n", at.UTC().Format(time.RFC3339))
	for _, s := range sections {
		fmt.Fprintf(w, "\n%s %s %s\n%s", ends.Mark, s.name, ends.Mark, s.text)
		if s.text == "" || s.text[len(s.text)-1] != '\n' {
			fmt.Fprintln(w)
		}
	}
}

// sections collects everything. What cannot be had is a line of its section.
func (r *request) sections(ctx context.Context, env *cli.Env) (l []section, err error) {
	lines := [][]string{
		{"version", "--abilities"}, {"verify"}, {"showdefaults"}, {"setup", "status"}, {"status"}, {"look"}, {"why"},
		{"eroute"}, {"spigrp"}, {"spi"}, {"tncfg"}, {"klipsdebug"},
	}
	connections, _ := conf.Names(env.Getenv) // files has the error
	for i, name := range connections {
		if i == ends.MaxFingerprints {
			break // each takes about as long as a password's
		}
		lines = append(lines, []string{"fingerprint", name})
	}
	for _, line := range lines {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l = append(l, r.applet(ctx, env, line))
	}
	for _, line := range [...]string{
		"ip -details address", "ip rule", "ip -6 rule", "ip route show table all", "ip neighbour", "nft list ruleset",
	} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l = append(l, section{line, r.machine.program(ctx, line)})
	}
	l = append(l, r.parameters())
	return append(l, r.files(env)...), nil
}

// applet runs an applet of this program, and returns a section with all that it prints.
func (r *request) applet(ctx context.Context, env *cli.Env, line []string) section {
	out, rest := r.call(ctx, env, line)
	return section{strings.Join(line, " "), out + rest}
}

// call runs an applet of this program. It returns what it prints as results, and all else.
func (r *request) call(ctx context.Context, env *cli.Env, line []string) (out, rest string) {
	for _, e := range r.entries {
		if e.Name != line[0] {
			continue
		}
		var results, notes bytes.Buffer
		inner := *env
		inner.Name, inner.Out, inner.Err, inner.In = "ipsec "+line[0], &results, &notes, bytes.NewReader(nil)
		text, status := cli.Message(inner.Name, e.App().Run(ctx, &inner, line[1:]))
		if text != "" {
			fmt.Fprintln(&notes, text)
		}
		if status != cli.ExitOK {
			fmt.Fprintf(&notes, "exit status %d\n", status)
		}
		return results.String(), notes.String()
	}
	return "", "there is no ipsec " + line[0] + "\n"
}
