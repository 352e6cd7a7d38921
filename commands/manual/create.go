package manual

import (
	"bufio"
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/keyfile"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/derive"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// defaultESP is the algorithm of a new connection.
const defaultESP = "aes256-gcm"

// New returns the applet that makes the files of a new connection.
func New() *cli.App {
	a := newTable()
	for i := range a.Options {
		if o := &a.Options[i]; o.Name == "esp" {
			for _, alg := range syntax.ESPNames() {
				o.Values = append(o.Values, alg.Name)
			}
		}
	}
	return a
}

// newTable returns the applet for the parser, without the list of algorithms.
func newTable() *cli.App {
	return &cli.App{
		Name:     "new",
		Short:    "make the files of a new connection, with a random key",
		Synopsis: []string{"NAME [--left ADDR] [--right ADDR] [--leftsubnet NET] [--rightsubnet NET] [--esp ALG] [--dir DIR]"},
		Options: append([]getopt.Option{
			{Name: "left", Arg: "ADDR", Help: "address of one end; without it the terminal is asked"},
			{Name: "right", Arg: "ADDR", Help: "address of the other end; likewise"},
			{Name: "leftsubnet", Arg: "NET", Help: "network behind left; without it left itself"},
			{Name: "rightsubnet", Arg: "NET", Help: "network behind right; without it right itself"},
			{Name: "esp", Arg: "ALG", Help: "algorithms, as after --esp of ipsec spi; " + defaultESP + " without it"},
			{Name: "dir", Arg: "DIR", Help: "folder of the files; without it $IPSEC_CONFS or " + conf.UsualDir},
		}, cli.CommonOptions()...),
		Parse: func(env *cli.Env, args []string) (cli.Command, error) { return newCommand(env, args, nil) },
	}
}

// newCommand returns the command for a host, which a test can replace; nil: this host.
func newCommand(env *cli.Env, args []string, h host.Host) (cli.Command, error) {
	d := &draft{esp: defaultESP}
	d.TakesOperands = true
	err := d.Parse(newTable().Options, args, getopt.EnvMode(env.Getenv), d.option)
	if err == nil && !d.Help && !d.Version {
		err = d.named(&d.Common)
	}
	return d.Command(env, New, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
		if h == nil {
			h, _ = host.This(ctx, env)
		}
		return d.run(env, h)
	}))
}

// A draft is a connection to be made.
type draft struct {
	cli.Common
	folder
	esp     string
	addrs   [2]netip.Addr   // of left and right
	subnets [2]netip.Prefix // invalid: the end itself
	base    klips.SPI
}

func (d *draft) option(name, value string) error {
	switch name {
	case "esp":
		if _, _, err := syntax.ParseESP(value); err != nil {
			return cli.Usagef("--esp %s: %w", quote.Value(value), err)
		}
		d.esp = value
	case "dir":
		if value == "" {
			return cli.Usagef("--dir: there is no folder name")
		}
		d.dir = value
	default:
		if err := d.set(name, value); err != nil {
			return cli.Usagef("--%s %s: %w", name, quote.Value(value), err)
		}
	}
	return nil
}

// set sets an address or a subnet, by the name of its parameter.
func (d *draft) set(param, value string) (err error) {
	for i, side := range sides {
		switch param {
		case side:
			d.addrs[i], err = syntax.ParseAddr(value, syntax.FamilyAny, nil)
		case side + "subnet":
			d.subnets[i], err = syntax.ParseSubnet(value, syntax.FamilyAny, nil)
		}
	}
	return err
}

// run makes both files, or none.
func (d *draft) run(env *cli.Env, h host.Host) error {
	if err := d.complete(env); err != nil {
		return err
	}
	err := d.in(env, func() error {
		if err := d.choose(env); err != nil {
			return err
		}
		if err := d.check(h); err != nil {
			return err
		}
		return d.write()
	})
	if err != nil {
		return err
	}
	return cli.Print(env, func(w io.Writer) error {
		_, err := io.WriteString(w, d.next(env, h))
		return err
	})
}

// complete asks the terminal for what is missing. Without a terminal that is an error.
func (d *draft) complete(env *cli.Env) error {
	var missing []string
	for i, side := range sides {
		if !d.addrs[i].IsValid() {
			missing = append(missing, "--"+side)
		}
	}
	switch {
	case len(missing) == 0:
		return nil
	case !cli.IsTerminal(env.In):
		return cli.Usagef("each end needs its address; give %s", strings.Join(missing, " and "))
	}
	in := bufio.NewReader(env.In)
	for i, side := range sides {
		if !d.addrs[i].IsValid() {
			if err := d.ask(env, in, side, "address of "+side); err != nil {
				return err
			}
		}
	}
	for i, side := range sides {
		if !d.subnets[i].IsValid() {
			if err := d.ask(env, in, side+"subnet", "network behind "+side+", or nothing for "+side+" alone"); err != nil {
				return err
			}
		}
	}
	return nil
}

// ask asks for a parameter until the answer is right.
func (d *draft) ask(env *cli.Env, in *bufio.Reader, param, question string) error {
	for {
		fmt.Fprintf(env.Err, "%s: ", question)
		line, err := in.ReadString('\n')
		if err != nil {
			fmt.Fprintln(env.Err)
			return fmt.Errorf("no answer for %s; nothing is made", param)
		}
		value := strings.TrimSpace(line)
		if value == "" && strings.HasSuffix(param, "subnet") {
			return nil
		}
		if err = d.set(param, value); err == nil {
			return nil
		}
		fmt.Fprintf(env.Err, "%s: %v\n", quote.Value(value), err)
	}
}

// choose finds a base for SPIs whose last 16 bits no connection in the folder has: in each
// epoch the SPIs of two connections differ. None of them is ever a reserved one.
func (d *draft) choose(env *cli.Env) error {
	files, err := d.conns(env)
	if err != nil {
		return err
	}
	used := map[klips.SPI]bool{}
	for name, f := range files.all() {
		if name == d.name {
			at, _ := f.file.Where(name)
			return fmt.Errorf("conn %s is at %v already; choose another name", name, at)
		}
		c, err := f.file.Conn([]string{name}, func(string) bool { return true }, nil)
		if err != nil {
			continue // no command can use it
		}
		for _, p := range append([]string{"spi", "spibase"}, otherSPIs[:]...) {
			n, err := spiOf(c.Get(p))
			if err != nil {
				continue
			}
			for _, name := range f.pairs(name) {
				_, pair, _ := splitPair(name)
				used[(n+shift(pair))&0xfff0] = true
			}
		}
	}
	var free []klips.SPI
	for n := klips.SPI(klips.MinSPI); n <= 0xfff0; n += 0x10 {
		if !used[n] {
			free = append(free, n)
		}
	}
	if len(free) == 0 {
		return fmt.Errorf("%s: its connections use all SPIs; take another folder with --dir", quote.File(d.dir))
	}
	d.base = klips.SPI(rand.Uint32())<<16 | free[rand.IntN(len(free))]
	return nil
}

// text returns the file of the connection.
func (d *draft) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The same on both ends. Both need %s, too.\nconn %s\n", filepath.Base(d.path(".key")), d.name)
	for i, side := range sides {
		fmt.Fprintf(&b, "\t%s=%s\n", side, klips.FormatAddr(d.addrs[i]))
		if d.subnets[i].IsValid() {
			fmt.Fprintf(&b, "\t%ssubnet=%s\n", side, klips.FormatPrefix(d.subnets[i]))
		}
	}
	fmt.Fprintf(&b, "\tspibase=0x%x\n\tesp=%s\n\tmasterkey=@%s\n\tauto=start\n", uint32(d.base), d.esp, filepath.Base(d.path(".key")))
	return b.String()
}

// check reads the text as ipsec up will read it, on the left end.
func (d *draft) check(h host.Host) error {
	l := conf.Loader{ReadFile: func(string) ([]byte, error) { return []byte(d.text()), nil }}
	f, err := configure(l, d.path(".conf"), h, host.Identity{Addr: d.addrs[0], Device: "ipsec0"})
	if err == nil {
		_, _, err = f.connection([]string{d.name}, false)
	}
	var inFile *conf.Error
	if errors.As(err, &inFile) {
		return cli.Usagef("%s", inFile.Msg) // nobody has the file with its lines yet
	}
	return err
}

// write makes both files, or none.
func (d *draft) write() error {
	key := make([]byte, derive.MinMaster)
	cryptorand.Read(key) // never returns an error
	text := keyfile.Format(key, false)
	clear(key)
	defer clear(text)
	if err := keyfile.Create(d.path(".key"), text); err != nil {
		return err
	}
	err := keyfile.Create(d.path(".conf"), []byte(d.text()))
	if err != nil {
		os.Remove(d.path(".key"))
	}
	return err
}

// next returns what was made, and the commands that come next.
func (d *draft) next(env *cli.Env, h host.Host) string {
	var b strings.Builder
	file, key := d.path(".conf"), d.path(".key")
	fmt.Fprintf(&b, "made %s, and %s, which must stay secret\n", quote.File(file), quote.File(key))
	var others []netip.Addr
	for _, a := range d.addrs {
		if h.DeviceOf(a) == "" {
			others = append(others, a)
		}
	}
	where := "the other end"
	if len(others) != 1 {
		where, others = "both ends", d.addrs[:]
	}
	fmt.Fprintf(&b, "copy them to %s:\n", where)
	for _, a := range others {
		at := "root@" + klips.FormatAddr(a)
		to := at
		if a.Is6() {
			to = "root@[" + klips.FormatAddr(a) + "]"
		}
		fmt.Fprintf(&b, "    ssh %s mkdir -p %s && scp -p %s\n", quote.Shell(at), quote.Shell(d.dir), step.ShellWords([]string{file, key, to + ":" + d.dir + "/"}))
	}
	fmt.Fprintf(&b, "then bring it up on both ends:\n    %s\n", upCommand(env, d.name, file))
	return b.String()
}
