package commands

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// help lists the applets. With the name of an applet it shows its manual page, or its
// usage text if there is no page.
func (p *program) help(args []string) int {
	if len(args) == 0 || len(args) == 1 && isHelp(args[0]) {
		return p.fail("ipsec", p.list())
	}
	if len(args) > 1 {
		return p.fail("ipsec help", cli.Usagef("unexpected argument %s; name one applet", quote.Name(args[1], find(args[1]) != nil)))
	}
	if args[0] == "--names" { // for scripts and packages: one name per line
		return p.fail("ipsec", p.names())
	}
	name := strings.TrimPrefix(args[0], linkPrefix)
	app := find(name)
	if app == nil {
		return p.fail("ipsec help", unknownApplet(name))
	}
	if shown, status := p.page(linkPrefix + name); shown {
		return status
	}
	return p.fail("ipsec help", cli.Usage(p.env("ipsec "+name), app()))
}

// isHelp reports whether an argument asks for help.
func isHelp(arg string) bool { return arg == "--help" || arg == "-h" || arg == "-?" }

// page shows a manual page with man(1) if both exist.
func (p *program) page(name string) (shown bool, status int) {
	man, err := exec.LookPath("man")
	if err != nil {
		return false, 0
	}
	// Some systems have a man that only prints that pages are not installed, with
	// status 0. So the answer must be a file.
	where, err := exec.Command(man, "-w", "8", name).Output()
	file, _, _ := strings.Cut(string(where), "\n")
	if err != nil || file == "" {
		return false, 0
	}
	if _, err := os.Stat(file); err != nil {
		return false, 0
	}
	cmd := exec.Command(man, "8", name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.in, p.out, p.err
	if err := cmd.Run(); err != nil {
		return true, p.fail("ipsec help", fmt.Errorf("man: %w", err))
	}
	return true, cli.ExitOK
}

func (p *program) list() error {
	return p.print(func(w io.Writer) {
		fmt.Fprint(w, "ipsec: key IPsec by hand\n\nUsage:\n"+
			"  ipsec [--stack NAME] APPLET [ARGUMENT...]\n"+
			"  ipsec help [APPLET]\n"+
			"  ipsec completion bash|zsh|fish\n"+
			"  ipsec --version\n\nApplets:\n")
		for _, app := range Apps() {
			fmt.Fprintf(w, "  %-11s %s\n", app.Name, app.Short)
		}
		fmt.Fprint(w, "\nNAME is user (the embedded stack), xfrm (the kernel's own) or klips (the kernel\n"+
			"module); without --stack and IPSEC_STACK it is the first that is there.\n")
	})
}

func (p *program) names() error {
	return p.print(func(w io.Writer) {
		for _, name := range Names() {
			fmt.Fprintln(w, name)
		}
	})
}

// print prints on standard output what write writes. It returns the error of the
// output.
func (p *program) print(write func(io.Writer)) error {
	return cli.Print(&cli.Env{Out: p.out}, func(w io.Writer) error {
		write(w)
		return nil // Print has the error of its buffer
	})
}

// Commands that stand for several words of other programs.
const (
	lookAll  = "ipsec look"
	del      = "ipsec spi --del for an SA, by ipsec eroute --del for an eroute"
	clearAll = "ipsec spi --clear for SAs, by ipsec eroute --clear for eroutes"
)

// elsewhere maps the words that other programs use to the command that does the same
// here.
var elsewhere = [...]struct{ word, command string }{
	{"check", "ipsec verify"}, {"doctor", "ipsec verify"}, {"info", "ipsec version"},
	{"list", lookAll}, {"ls", lookAll}, {"show", lookAll}, {"dump", lookAll}, {"statusall", lookAll}, {"report", "ipsec barf"},
	{"auto", "ipsec up and ipsec down"}, {"whack", "ipsec up and ipsec down"}, {"conn", "ipsec status"},
	{"add", "ipsec spi for an SA, by ipsec eroute --add for an eroute"}, {"sa", "ipsec spi"}, {"state", "ipsec spi"},
	{"del", del}, {"delete", del}, {"remove", del}, {"rm", del},
	{"clear", clearAll}, {"flush", clearAll}, {"group", "ipsec spigrp"}, {"ungroup", "ipsec spigrp"},
	{"policy", "ipsec eroute"}, {"attach", "ipsec tncfg --attach"}, {"detach", "ipsec tncfg --detach"},
	{"daemon", "ipsec klipsd"}, {"debug", "ipsec klipsdebug"},
	{"key", "ipsec genkey"}, {"keygen", "ipsec genkey"}, {"random", "ipsec ranbits"}, {"run", "ipsec batch"},
}

// unknownApplet returns the error for a name that is not an applet. The error suggests
// the applet that was perhaps meant.
func unknownApplet(name string) error {
	names := Names()
	for _, e := range elsewhere {
		names = append(names, e.word)
	}
	near := name // "rm" is one of the words, and similar to others
	if !slices.Contains(names, name) {
		near = getopt.Nearest(name, names)
	}
	if near == "" {
		return cli.Usagef("no applet %s", quote.Name(name, false))
	}
	meant := ""
	if near != name {
		meant = " did you mean " + near + "?"
	}
	for _, e := range elsewhere {
		if e.word == near {
			return cli.Usagef("no applet %s;%s this is done by %s", quote.Name(name, true), meant, e.command)
		}
	}
	return cli.Usagef("no applet %s;%s", quote.Name(name, true), meant)
}
