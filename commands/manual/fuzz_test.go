package manual

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// samples are files in the form of published ones.
var samples = []string{
	several,
	tunnel,
	hosts + "spi=0x200\n ah=hmac-md5-96\n ahkey=0x12345678_9abcdef0_2468ace0_13579bdf\n",
	"\ufeff# /etc/ipsec.conf\r\nversion\t2.0\r\n\r\nconfig setup\r\n\tinterfaces=\"ipsec0=eth0 ipsec1=ppp0\"\r\n\tklipsdebug=none\r\n\tplutodebug=\r\n\r\nconn %default\r\n\tkeyingtries=0\r\n\r\nconn t\r\n\tleft=10.0.0.1\r\n#\tleftnexthop=10.0.0.254\r\n\tright=10.0.0.2\r\n\tspi=0x200\r\n\tesp=3des-md5-96\r\n\tespenckey=KEY3DES\r\n\tespauthkey=KEYMD5\r\n\tauto=manual",
	"conn t\n\tleft=%defaultroute\n\talsoflip=u\n\tspibase=0x200\nconn u\n\tleft=10.0.0.2\n\tleftsubnet=10.2.3.4/16\n\tesp=3des-md5-96\n\tleftespenckey=KEY3DES\n\trightespenckey=KEY3DES\n\tespauthkey=KEYMD5\n\tah=hmac-md5-96\n\tahkey=KEYMD5\n\tahreplay_window=32\n",
	"conn t\n left=%defaultroute\n right=2001:db8::2\n rightsubnet=%default\n type=reject\n",
	"config setup\n interfaces=%defaultroute\nconn t\n type=drop\n left=10.0.0.1\n right=%any\n rightsubnet=0.0.0.0/0\n",
	"conn t\n left=KEYMD5\n right=10.0.0.2\n", "conn t\n left=10.0.0.1\n right=10.0.0.2\n esp=KEYMD5\n spi=KEYMD5\n",
	"conn t\n also=KEYMD5\n", "conn KEYMD5\n", "KEYMD5\n", "conn t\n KEYMD5\n", "conn t\n aKEYMD5=KEYMD5\n", "conn t\n espenckey=KEYMD5 \\\n KEYMD5\n",
	"config setup\n interfaces=KEYMD5\n", "config setup\n interfaces=ipsec0=KEYMD5\n" + tunnel, "config setup\n aKEYMD5=1\n" + tunnel,
	"conn t\n left=10.0.0.1\n right=10.0.0.2\n espreplay_window=KEYMD5\n spi=0x300\n esp=3des-md5-96\n ahkey=KEYMD5\n espenckey=KEYMD5\n",
	"conn t\n left=10.0.0.1\n leftsubnet=KEYMD5/8\n leftnexthop=KEYMD5\n type=KEYMD5\n",
	hosts + "spibase=0x300\n esp=aes128-sha1\n masterkey=KEY3DES_feedface_76543210\n epoch=7\n",
	"include other\nconn t\n also=other\n left=10.0.0.1\n",
}

// testKeys replaces words in a fuzzed text by keys. A message that contains a part of
// them reveals a key.
var testKeys = strings.NewReplacer(
	"KEY3DES", "0xfeedface_fedcba98_feedface_76543210_feedface_feedc0de",
	"KEYMD5", "0xfeedface_fedcba98_feedface_76543210",
)

var keyParts = []string{"feedface", "fedcba98", "76543210", "feedc0de"}

// FuzzFile reads a file and sets up its connections on a stack. Nothing panics. Errors
// have one line, name the file and the line, and contain no key. --down and --unroute
// remove everything that --up makes.
func FuzzFile(f *testing.F) {
	for _, s := range samples {
		f.Add(s, "conn other\n\tright=10.0.0.2\n\tspi=0x200\n")
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no testdata: %v", err)
	}
	for _, name := range files {
		ar, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range ar.Files {
			if file.Name == "ipsec.conf" {
				f.Add(string(file.Data), "")
			}
		}
	}
	f.Fuzz(func(t *testing.T, text, other string) {
		names := map[string]string{"ipsec.conf": testKeys.Replace(text), "other": testKeys.Replace(other)}
		// check examines an error; fromFile is set for errors of the file's text.
		check := func(err error, fromFile bool) {
			if err == nil {
				return
			}
			msg := err.Error()
			if strings.Contains(msg, "\n") {
				t.Errorf("an error of several lines: %q", msg)
			}
			if i := slices.IndexFunc(keyParts, func(k string) bool { return strings.Contains(msg, k) }); i >= 0 && !strings.Contains(msg, "include: ") {
				t.Errorf("a part of a key is in: %s", msg)
			}
			var e *conf.Error
			if fromFile && (!errors.As(err, &e) || e.Pos == (conf.Pos{})) && !strings.Contains(msg, "include: ") {
				t.Errorf("no line is named: %s", msg)
			}
		}
		loader := conf.Loader{
			ReadFile: func(name string) ([]byte, error) {
				if text, ok := names[name]; ok {
					return []byte(text), nil
				}
				return nil, errors.New("there is none")
			},
			Glob: func(pattern string) (list []string, err error) {
				for _, name := range []string{"ipsec.conf", "other"} {
					if ok, err := filepath.Match(pattern, name); ok {
						list = append(list, name)
					} else if err != nil {
						return nil, err
					}
				}
				return list, nil
			},
		}
		file, err := loader.Load("ipsec.conf")
		if err != nil {
			check(err, true)
			return
		}
		c := &configuration{file: file, host: left}
		if c.bindings, err = interfaces(file.Setup("interfaces"), left); err != nil {
			check(err, true)
			return
		}
		for _, p := range file.SetupUnknown(knownSetup) {
			check(p.Error(setupHint(p.Name)), true)
		}
		for _, name := range file.Names() {
			k, _, err := c.connection([]string{name}, false)
			if err != nil {
				check(err, true)
				continue
			}
			for _, n := range k.notes {
				check(errors.New(n), false)
			}
			for _, op := range operations {
				p := makePlan(k, op, nil)
				if err := p.Write(io.Discard, "", true); err != nil {
					t.Error(err)
				}
			}
			tryOut(t, c, k, check)
		}
	})
}

// tryOut brings a connection up and down on a stack in memory.
func tryOut(t *testing.T, c *configuration, k *connection, check func(err error, fromFile bool)) {
	if k.me().updown != "" {
		return // do not run scripts from a fuzzer
	}
	if strings.HasPrefix(k.master.Value, "@") {
		return // as below
	}
	for _, e := range k.ends {
		if strings.HasPrefix(e.encKey, "@") || strings.HasPrefix(e.authKey, "@") || strings.HasPrefix(e.ahKey, "@") {
			return // do not read key files named by a fuzzer
		}
	}
	b := &bench{model: newModel(), table: table{links: []string{"ipsec0 up"}}}
	var errOut bytes.Buffer
	env := &cli.Env{
		Name: "ipsec manual", Out: io.Discard, Err: &errOut, Getenv: func(string) string { return "" },
		Stack: func(context.Context) (klips.Stack, error) { return serial.New(b.model), nil },
	}
	x := newExecutor(env, k, nil, &b.table, true)
	x.Plan = makePlan(k, "up", nil)
	if err := x.Try(); err != nil {
		check(err, false)
		return
	}
	do := func(op string) error {
		at, err := x.look(ctx)
		if err != nil {
			t.Fatal(err)
		}
		err = x.operate(ctx, op, at, c)
		check(err, false)
		return err
	}
	before := b.state()
	if do("up") != nil {
		if b.state() != before {
			t.Errorf("a refused --up leaves\n%s", b.state())
		}
		return
	}
	up := b.state()
	if do("up") == nil || b.state() != up {
		t.Errorf("a second --up is not refused, or changes\n%sto\n%s", up, b.state())
	}
	if err := errors.Join(do("down"), do("unroute")); err != nil {
		t.Errorf("down: %v", err)
	}
	if len(b.model.groups)+len(b.model.eroutes)+len(b.model.policies)+len(b.table.routes)+len(b.table.stops)+len(b.model.guards) != 0 {
		t.Errorf("up, down and unroute leave\n%s", b.state())
	}
	for line := range strings.Lines(errOut.String()) {
		check(errors.New(strings.TrimSuffix(line, "\n")), false)
	}
}
