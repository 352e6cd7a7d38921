package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/getopt"
)

// Usage prints the usage text of an applet: synopsis, options and notes.
func Usage(env *Env, app *App) error {
	return Print(env, func(w io.Writer) error {
		usage(w, app, env)
		return nil // Print has the error of its buffer
	})
}

func usage(b io.Writer, app *App, env *Env) {
	name := env.Name
	if i := strings.Index(name, " --label "); i >= 0 {
		name = name[:i]
	}
	fmt.Fprintf(b, "%s: %s\n\nUsage:\n", name, app.Short)
	for _, s := range app.Synopsis {
		fmt.Fprintf(b, "  %s\n", strings.TrimRight(name+" "+s, " "))
	}
	if len(app.Options) > 0 {
		fmt.Fprint(b, "\nOptions:\n")
	}
	for _, o := range app.Options {
		if o.Hidden {
			continue
		}
		text := optionText(o)
		if len(text) > usageColumn-3 {
			fmt.Fprintf(b, "  %s\n", text)
			text = ""
		}
		fmt.Fprintf(b, "  %-*s%s\n", usageColumn-2, text, o.Help)
	}
	if app.Notes != nil {
		fmt.Fprintf(b, "\n%s", app.Notes())
	}
}

// usageColumn is the column at which the descriptions of options begin.
const usageColumn = 26

func optionText(o getopt.Option) string {
	if o.Arg == "" {
		return "--" + o.Name
	}
	return "--" + o.Name + " " + o.Arg
}
