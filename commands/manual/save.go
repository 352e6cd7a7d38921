package manual

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/keyfile"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/netdb"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// Save returns the applet that writes what was made by hand as a connection of a file.
func Save() *cli.App {
	a := &cli.App{
		Name:  "save",
		Short: "write SAs and an eroute made by hand as a connection of a file",
		Synopsis: []string{
			"NAME [--src SUBNET] [--dst SUBNET] [--transport-proto PROTO] [--src-port PORT] [--dst-port PORT] [--to ADDR] [--in SAID] [--dir DIR] [--force]",
		},
		Options: append([]getopt.Option{
			{Name: "src", Arg: "SUBNET", Help: "choose the eroute for packets from there, as in ipsec eroute"},
			{Name: "dst", Arg: "SUBNET", Help: "choose the eroute for packets to there"},
			{Name: "transport-proto", Arg: "PROTO", Help: "choose the eroute for this protocol, name or number; 0: for any", Values: []string{"tcp", "udp", "icmp", "ipv6-icmp", "sctp", "gre"}},
			{Name: "src-port", Arg: "PORT", Help: "choose the eroute for this source port, name or number; 0: for any", Values: []string{"<service>"}},
			{Name: "dst-port", Arg: "PORT", Help: "choose the eroute for this destination port, name or number; 0: for any", Values: []string{"<service>"}},
			{Name: "to", Arg: "ADDR", Help: "choose the eroute whose SAs go to this host"},
			{Name: "in", Arg: "SAID", Help: "the SA that receives, or one of its group, if several may", Values: []string{"<said>"}},
			{Name: "dir", Arg: "DIR", Help: "folder of the files; without it $IPSEC_CONFS or " + conf.UsualDir},
			{Name: "force", Help: "overwrite the files of an earlier ipsec save"},
		}, cli.CommonOptions()...),
	}
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		return saveCommand(env, a, args, nil, nil)
	}
	return a
}

// A save is the parsed command line.
type save struct {
	cli.Common
	folder
	want  choice
	force bool
}

// A choice selects one of several eroutes, and of several SAs that receive. What is not given
// is zero.
type choice struct {
	given    cli.Given
	selector klips.Selector
	to       netip.Addr
	in       klips.SAID
}

func parseSave(env *cli.Env, app *cli.App, args []string) (*save, error) {
	s := &save{}
	s.TakesOperands = true
	err := s.Parse(app.Options, args, getopt.EnvMode(env.Getenv), func(option, value string) error {
		if option == "force" {
			s.force = true
			return nil
		}
		if err := s.want.given.Add(option, value); err != nil {
			return err
		}
		if err := s.value(env, option, value); err != nil {
			return cli.Usagef("--%s %s: %w", option, quote.Value(value), err)
		}
		return nil
	})
	if err != nil || s.Help || s.Version {
		return s, err
	}
	return s, s.named(&s.Common)
}

// value parses the value of an option.
func (s *save) value(env *cli.Env, option, value string) (err error) {
	sel := &s.want.selector
	switch option {
	case "src":
		sel.Src, err = syntax.ParseSubnet(value, syntax.FamilyAny, env.Resolver)
	case "dst":
		sel.Dst, err = syntax.ParseSubnet(value, syntax.FamilyAny, env.Resolver)
	case "transport-proto":
		sel.Proto, err = netdb.ParseProtocol(value)
	case "src-port":
		sel.SrcPort, err = netdb.ParsePort(value)
	case "dst-port":
		sel.DstPort, err = netdb.ParsePort(value)
	case "to":
		s.want.to, err = syntax.ParseAddr(value, syntax.FamilyAny, env.Resolver)
	case "in":
		s.want.in, err = syntax.ParseSAID(value, env.Resolver)
	case "dir":
		if s.dir = value; value == "" {
			err = errors.New("there is no folder name")
		}
	}
	return err
}

// selects reports whether an eroute is one of those that were chosen.
func (c *choice) selects(e *klips.Eroute) bool {
	for option, same := range map[string]bool{
		"src": e.Src == c.selector.Src, "dst": e.Dst == c.selector.Dst,
		"transport-proto": e.Proto == c.selector.Proto,
		"src-port":        e.SrcPort == c.selector.SrcPort, "dst-port": e.DstPort == c.selector.DstPort,
		"to": e.ID.Dst == c.to,
	} {
		if c.given.Has(option) && !same {
			return false
		}
	}
	return true
}

// saveCommand returns the command for a host and its network, which a test can replace; nil:
// this host.
func saveCommand(env *cli.Env, app *cli.App, args []string, h host.Host, n host.Network) (cli.Command, error) {
	s, err := parseSave(env, app, args)
	return s.Command(env, func() *cli.App { return app }, err, onHost(h, n, s.run))
}

// run makes all files, or none.
func (s *save) run(ctx context.Context, env *cli.Env, h host.Host, n host.Network) error {
	stack, err := env.Stack(ctx)
	if err != nil {
		return err
	}
	defer stack.Close()
	records, err := readRecords(h)
	if err != nil {
		return err
	}
	f, err := recognize(ctx, stack, h, n, &s.want, records)
	if err != nil {
		return err
	}
	f.conn.name = s.name
	keys, err := f.readKeys(ctx, stack)
	defer keys.clear()
	if err != nil {
		return err
	}
	err = s.in(env, func() error {
		if err := s.free(env); err != nil {
			return err
		}
		text := f.text(keys)
		if err := f.check(s.path(".conf"), text, h); err != nil {
			return err
		}
		return s.write(text, keys)
	})
	if err != nil {
		return err
	}
	for _, l := range slices.Concat(f.lost, keys.missing) {
		cli.Notef(env, "conn %s: %s", s.name, l)
	}
	if !keys.marked {
		cli.Notef(env, "conn %s: this stack keeps no sequence marks: if the connection is made again, its numbers begin at 1, and a peer with a replay window refuses them until its SAs are made again, too", s.name)
	}
	return cli.Print(env, func(w io.Writer) error {
		_, err := io.WriteString(w, s.next(env, keys))
		return err
	})
}

// free returns an error if a file has a conn of this name, other than the one that is
// overwritten.
func (s *save) free(env *cli.Env) error {
	files, err := s.conns(env)
	if err != nil {
		return err
	}
	for name, f := range files.all() {
		if at, _ := f.file.Where(name); name == s.name && at.File != s.path(".conf") {
			return fmt.Errorf("conn %s is at %v already; choose another name", name, at)
		} else if name == s.name && !s.force {
			return fmt.Errorf("conn %s is at %v already; choose another name, or overwrite it with --force", name, at)
		}
	}
	return nil
}

// write makes the files: the keys first, so that no connection ever lacks them.
func (s *save) write(text string, keys *savedKeys) error {
	var list []keyfile.File
	for _, name := range slices.Sorted(maps.Keys(keys.files)) {
		list = append(list, keyfile.File{Path: filepath.Join(s.dir, keyName(s.name, name)), Text: keys.files[name]})
	}
	return keyfile.Write(append(list, keyfile.File{Path: s.path(".conf"), Text: []byte(text)}), s.force)
}

// next returns what was made, and the commands that come next.
func (s *save) next(env *cli.Env, keys *savedKeys) string {
	var b strings.Builder
	fmt.Fprintf(&b, "made %s", quote.File(s.path(".conf")))
	for i, name := range slices.Sorted(maps.Keys(keys.files)) {
		word := ", "
		if i == 0 {
			word = " and the keys "
		}
		b.WriteString(word + quote.File(filepath.Join(s.dir, keyName(s.name, name))))
	}
	if len(keys.files) > 0 {
		b.WriteString(", which must stay secret")
	}
	then := "the SAs that are there now become this connection, without a change, by:"
	if len(keys.missing) > 0 {
		then = "when all keys are there, the SAs become this connection, without a change, by:"
	}
	fmt.Fprintf(&b, "\n%s\n    %s\n", then, upCommand(env, s.name, s.path(".conf")))
	return b.String()
}

// ownedBy returns the name of the connection that commands have made an SA or an eroute for;
// "": it was made by hand.
func ownedBy(records map[string]made.Connection, sel *klips.Selector, id klips.SAID) string {
	for _, name := range slices.Sorted(maps.Keys(records)) {
		c := records[name]
		if !c.Up() {
			continue
		}
		for _, k := range recorded(c) {
			if k.shunt == "" && slices.Contains(k.saids(), id) && (sel == nil || *sel == k.selector()) {
				return name
			}
		}
	}
	return ""
}
