package manual

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/derive"
)

// Fingerprint returns the applet that prints checks of keys, so that two ends can compare
// their keys without showing them.
func Fingerprint() *cli.App {
	return &cli.App{
		Name:     "fingerprint",
		Short:    "print checks of keys that both ends can compare",
		Synopsis: []string{"[--config FILE] NAME", "@FILE"},
		Operands: []string{"<conn>", "<file>"},
		Options:  append([]getopt.Option{configOption}, cli.CommonOptions()...),
		Notes:    func() string { return verbNotes + "@FILE is a file that holds one key.\n" },
		Parse:    fingerprintCommand,
	}
}

func fingerprintCommand(env *cli.Env, args []string) (cli.Command, error) {
	r := &fingerprint{}
	r.TakesOperands = true
	err := r.Parse(Fingerprint().Options, args, getopt.EnvMode(env.Getenv), func(_, value string) error {
		return setConfig(&r.config, value)
	})
	if err == nil && !r.Help && !r.Version {
		err = r.finish()
	}
	return r.Command(env, Fingerprint, err, cli.Func(r.run))
}

// A fingerprint is a parsed command line.
type fingerprint struct {
	cli.Common
	config string
	name   string // of a connection; empty: file is given
	file   string
}

func (r *fingerprint) finish() error {
	switch len(r.Operands) {
	case 0:
		return cli.Usagef("what to check is missing: give the name of a connection, or @ and the name of a key file")
	case 1:
	default:
		return cli.Usagef("unexpected argument %s; one connection or file at a time", quote.Word(r.Operands[1], r.Places[1]))
	}
	file, isFile := strings.CutPrefix(r.Operands[0], "@")
	switch {
	case !isFile:
		r.name = r.Operands[0]
		if err := conf.CheckName(r.name); err != nil {
			return cli.Usagef("connection: %v; a key file is written with @ at the front", err)
		}
		return nil
	case file == "":
		return cli.Usagef("@: there is no file name after @")
	case r.config != "":
		return cli.Usagef("--config does not go with @FILE; it is for connections")
	}
	r.file = file
	return nil
}

func (r *fingerprint) run(_ context.Context, env *cli.Env) error {
	lines := r.ofFile
	if r.name != "" {
		lines = r.ofConn
	}
	text, err := lines(env)
	if err != nil {
		return err
	}
	return cli.Print(env, func(w io.Writer) error {
		_, err := io.WriteString(w, strings.Join(text, "\n")+"\n")
		return err
	})
}

// ofFile returns the fingerprint of the key in the file, which belongs to no connection.
func (r *fingerprint) ofFile(env *cli.Env) ([]string, error) {
	key, err := readNoted(env, "@"+r.file)
	defer clear(key)
	if err != nil {
		return nil, err
	}
	check, err := derive.Fingerprint(key, "")
	return []string{check}, err
}

// ofConn returns the fingerprints of the keys of the connection.
func (r *fingerprint) ofConn(env *cli.Env) ([]string, error) {
	paths, err := conf.Search(r.config, env.Getenv)
	if err != nil {
		return nil, err
	}
	fs := loadPaths(paths, loadText)
	f, err := fs.find(r.name)
	if err != nil {
		return nil, r.orFile(err)
	}
	fs.noteUnread(env)
	return f.fingerprints(env, r.name)
}

// orFile adds a hint to an error about a connection if there is a file of its name.
func (r *fingerprint) orFile(err error) error {
	if _, statErr := os.Stat(r.name); statErr != nil {
		return err
	}
	return fmt.Errorf("%w; for the key in the file of this name write @%s", err, r.name)
}

// fingerprints returns one line for each key of a connection, the same on both ends.
func (f *configuration) fingerprints(env *cli.Env, name string) (lines []string, err error) {
	c, err := f.file.Conn([]string{name}, known, allParams())
	if err != nil {
		return nil, err
	}
	k := &connection{name: name}
	if err := k.mode(c); err != nil {
		return nil, err
	}
	if k.shunt != "" {
		return nil, c.Errorf("a conn of type %s has no keys", c.Get("type").Value)
	}
	if err := k.numbers(c); err != nil {
		return nil, err
	}
	if err := k.keys(c); err != nil {
		return nil, err
	}
	add := func(param string, key []byte, err error) error {
		defer clear(key)
		if err == nil {
			var check string
			check, err = derive.Fingerprint(key, name)
			lines = append(lines, name+" "+param+": "+check)
		}
		if err != nil {
			return c.Errorf("%s: %v", param, err)
		}
		return nil
	}
	if k.master.Value != "" {
		key, err := readMaster(k.master)
		return lines, add(k.master.Name, key, err)
	}
	for i, side := range sides {
		for j, value := range [len(keyParams)]string{k.ends[i].encKey, k.ends[i].authKey, k.ends[i].ahKey} {
			if value == "" {
				continue
			}
			key, err := readNoted(env, value)
			if err := add(side+keyParams[j], key, err); err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

// readNoted reads a key as readKey does, and prints a note if other users can get it.
func readNoted(env *cli.Env, value string) ([]byte, error) {
	key, exposed, err := readKey(value)
	if err == nil && exposed != "" {
		cli.Notef(env, "%s", exposed)
	}
	return key, err
}
