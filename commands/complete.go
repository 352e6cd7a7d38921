package commands

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/stacks"
)

// isCompletion reports whether a first argument is the one that completion scripts use.
func isCompletion(arg string) bool {
	return arg == cobra.ShellCompRequestCmd || arg == cobra.ShellCompNoDescRequestCmd
}

// complete prints the completions of a command line for a shell.
func (p *program) complete(args []string) int {
	// The name of the stack decides which SAs are offered.
	for i, a := range args {
		if a == "--stack" && i+1 < len(args) {
			p.stack = args[i+1]
		} else if v, ok := strings.CutPrefix(a, "--stack="); ok {
			p.stack = v
		}
	}
	root := p.tree()
	root.SetArgs(args)
	var answer bytes.Buffer // cobra drops errors of its output
	root.SetOut(&answer)
	err := root.Execute()
	if err == nil {
		err = p.print(func(w io.Writer) { answer.WriteTo(w) })
	}
	return p.fail("ipsec", err)
}

// completion prints the completion script for a shell.
func (p *program) completion(args []string) int {
	if len(args) != 1 {
		return p.fail("ipsec completion", cli.Usagef("name one shell: bash, zsh or fish"))
	}
	root := p.tree()
	var script bytes.Buffer
	var err error
	switch args[0] {
	case "bash":
		err = root.GenBashCompletionV2(&script, true)
		fmt.Fprintf(&script, "\ncomplete -o default -o nosort -F __start_ipsec%s\n", appletLinks())
	case "zsh":
		var b bytes.Buffer
		err = root.GenZshCompletion(&b)
		script.WriteString(strings.Replace(b.String(), "#compdef ipsec\ncompdef _ipsec ipsec\n",
			"#compdef ipsec"+appletLinks()+"\ncompdef _ipsec ipsec"+appletLinks()+"\n", 1))
	case "fish":
		// fish reads the file ipsec_spi.fish to complete ipsec_spi: make install
		// links those names to this script.
		err = root.GenFishCompletion(&script, true)
		fmt.Fprintf(&script, "\nfor link in%s\n    complete -c $link -e\n    complete -c $link -w (string replace _ ' ' $link)\nend\n", appletLinks())
	case "--help", "-h", "-?":
		return p.help(nil)
	default:
		err = cli.Usagef("no script for %s; there are bash, zsh and fish", quote.Name(args[0], false))
	}
	if err == nil {
		err = p.print(func(w io.Writer) { script.WriteTo(w) })
	}
	return p.fail("ipsec completion", err)
}

// appletLinks returns the names of the links to the applets, each with a blank before
// it: the scripts complete them too.
func appletLinks() string {
	var b strings.Builder
	for _, name := range Names() {
		b.WriteString(" " + linkPrefix + name)
	}
	return b.String()
}

// tree returns the command tree of all applets. It knows only the names of their
// options, because the applets parse their command lines themselves.
func (p *program) tree() *cobra.Command {
	root := &cobra.Command{
		Use:           "ipsec",
		Short:         "key IPsec by hand",
		SilenceErrors: true,
		SilenceUsage:  true,
		Run:           func(*cobra.Command, []string) {}, // it has flags to complete
	}
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().SortFlags = false
	root.Flags().String("stack", "", "the stack to talk to")
	_ = root.RegisterFlagCompletionFunc("stack", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return stacks.Names[:], cobra.ShellCompDirectiveNoFileComp
	})
	root.Flags().Bool("help", false, "list the applets")
	root.Flags().Bool("version", false, "print the version")
	root.SetHelpCommand(&cobra.Command{
		Use:   "help [APPLET]",
		Short: "list the applets, or show the page of one",
		ValidArgsFunction: func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, app := range Apps() {
				names = append(names, app.Name+"\t"+app.Short)
			}
			return matching(names, word), cobra.ShellCompDirectiveNoFileComp
		},
		Run: func(*cobra.Command, []string) {},
	})
	root.AddCommand(&cobra.Command{
		Use: "completion", Short: "print the completion script of a shell",
		ValidArgs: []string{"bash", "zsh", "fish"},
		Run:       func(*cobra.Command, []string) {},
	})
	for _, app := range Apps() {
		root.AddCommand(p.node(app))
	}
	return root
}

// node returns the command of one applet.
func (p *program) node(app *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:                app.Name,
		Short:              app.Short,
		DisableFlagParsing: true,
		Run:                func(*cobra.Command, []string) {},
		ValidArgsFunction: func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			return p.values(app, args, word)
		},
	}
	cmd.Flags().SortFlags = false
	for _, o := range app.Options {
		switch {
		case o.Hidden:
		case o.Arg == "":
			cmd.Flags().Bool(o.Name, false, o.Help)
		default:
			cmd.Flags().String(o.Name, "", o.Help)
		}
	}
	return cmd
}

// values returns the completions of word after args, where word is not the name of an
// option.
func (p *program) values(app *cli.App, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if strings.HasPrefix(word, "-") {
		name, value, ok := strings.Cut(word, "=")
		o := option(app, name)
		if !ok || o == nil || o.Arg == "" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, directive := p.expand(app, o.Values, value)
		for i := range list {
			list[i] = name + "=" + list[i]
		}
		return list, directive
	}
	if len(args) > 0 {
		if o := option(app, args[len(args)-1]); o != nil && o.Arg != "" {
			return p.expand(app, o.Values, word)
		}
	}
	// An option without a value can decide what the operands are.
	for _, arg := range args {
		if o := option(app, arg); o != nil && o.Arg == "" && len(o.Values) > 0 {
			return p.expand(app, o.Values, word)
		}
	}
	if len(app.Operands) > 0 {
		return p.expand(app, app.Operands, word)
	}
	return matching(operands(app, args), word), cobra.ShellCompDirectiveNoFileComp
}

// option returns the applet's option that arg names in full.
func option(app *cli.App, arg string) *getopt.Option {
	name, ok := strings.CutPrefix(arg, "--")
	if !ok {
		return nil
	}
	for i := range app.Options {
		if app.Options[i].Name == name {
			return &app.Options[i]
		}
	}
	return nil
}

// operands returns the plain words that synopses begin with, such as "start", if there
// is no operand yet.
func operands(app *cli.App, args []string) []string {
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			return nil
		}
	}
	var words []string
	for _, s := range app.Synopsis {
		word, _, _ := strings.Cut(s, " ")
		if word != "" && word[0] >= 'a' && word[0] <= 'z' {
			words = append(words, word)
		}
	}
	return words
}

// expand replaces the classes in angle brackets by the values that they stand for.
func (p *program) expand(app *cli.App, values []string, word string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp
	var list []string
	for _, v := range values {
		switch v {
		case "<file>":
			// Keys come from files as @FILE. Shells do not complete that form.
			if at, ok := strings.CutPrefix(word, "@"); ok {
				names, _ := filepath.Glob(at + "*")
				for _, n := range names {
					list = append(list, "@"+n)
				}
				continue
			}
			directive = cobra.ShellCompDirectiveDefault
		case "<device>":
			list = append(list, devices(false)...)
		case "<virtual>":
			list = append(list, devices(true)...)
		case "<said>":
			list = append(list, p.saids()...)
		case "<conn>":
			names, _ := conf.Names(p.getenv)
			list = append(list, names...)
		default:
			if !strings.HasPrefix(v, "<") {
				list = append(list, v)
			}
		}
	}
	return matching(list, word), directive
}

func matching(list []string, word string) []string {
	var out []string
	for _, v := range list {
		if strings.HasPrefix(v, word) {
			out = append(out, v)
		}
	}
	return out
}

// devices returns the network devices that are virtual devices of KLIPS, or those that
// are not.
func devices(virtual bool) []string {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var names []string
	for _, i := range ifs {
		if links.IsVirtual(i.Name) == virtual {
			names = append(names, i.Name)
		}
	}
	return names
}

// saids returns the SAs of the stack. The shell waits for the answer, so it gives up
// soon and without a message.
func (p *program) saids() []string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := p.open(ctx, environ.Stacks(p.stack, p.getenv))
	if err != nil {
		return nil
	}
	defer s.Close()
	sas, err := klips.ReadSAs(ctx, s)
	if err != nil {
		return nil
	}
	const most = 200 // a longer list is not readable
	var list []string
	for _, sa := range sas[:min(most, len(sas))] {
		list = append(list, sa.ID.String())
	}
	return list
}
