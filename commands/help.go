package commands

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
)

// help lists the applets or, with an applet's name, shows its manual page; its
// usage text where there is no such page.
func (p *program) help(args []string) int {
	if len(args) == 0 || len(args) == 1 && args[0] == "--help" {
		return p.fail("ipsec", p.list())
	}
	if len(args) > 1 {
		return p.fail("ipsec help", cli.Usagef("unexpected argument %s; name one applet", getopt.Quote(args[1])))
	}
	if args[0] == "--names" { // for scripts and packages: one name a line
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
	cli.Usage(p.out, app(), p.env("ipsec "+name))
	return cli.ExitOK
}

// page shows a manual page with man(1) if both are there.
func (p *program) page(name string) (shown bool, status int) {
	man, err := exec.LookPath("man")
	if err != nil {
		return false, 0
	}
	// Where man is a stand-in that says that pages are not installed, it
	// answers with status 0 too, so what it answers must be a file.
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
	w := bufio.NewWriter(p.out)
	fmt.Fprint(w, "ipsec: key IPsec by hand\n\nUsage:\n"+
		"  ipsec [--stack NAME] APPLET [ARGUMENT...]\n"+
		"  ipsec help [APPLET]\n"+
		"  ipsec completion bash|zsh|fish\n"+
		"  ipsec --version\n\nApplets:\n")
	for i := range registry {
		app := registry[i].app()
		fmt.Fprintf(w, "  %-11s %s\n", app.Name, app.Short)
	}
	fmt.Fprint(w, "\nNAME is user (the embedded stack), xfrm (the kernel's own) or klips (the kernel\n"+
		"module); without --stack and IPSEC_STACK it is the first that is there.\n")
	return w.Flush()
}

func (p *program) names() error {
	w := bufio.NewWriter(p.out)
	for i := range registry {
		fmt.Fprintln(w, registry[i].name)
	}
	return w.Flush()
}

// unknownApplet says that there is no such applet, and which was perhaps meant.
func unknownApplet(name string) error {
	names := make([]string, len(registry))
	for i := range registry {
		names[i] = registry[i].name
	}
	if near := getopt.Nearest(name, names); near != "" {
		return cli.Usagef("no applet %s; did you mean %s?", getopt.Quote(name), near)
	}
	return cli.Usagef("no applet %s", getopt.Quote(name))
}
