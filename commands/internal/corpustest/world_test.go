package corpustest

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/engine"
)

var apps = map[string]func() *cli.App{
	"spi": spi.App, "spigrp": spigrp.App, "eroute": eroute.App, "tncfg": tncfg.App, "klipsdebug": klipsdebug.App,
}

// A world is one stack on one host, used through command lines.
type world struct {
	t     *testing.T
	host  *klipstest.Host
	net   *klipstest.Network
	clock *clocktest.Clock // of the engine
	eng   *engine.Engine   // nil for another stack
	stack serial.Doer
}

// newWorld starts the embedded stack with ipsec0 and ipsec1.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, net: new(klipstest.Network), clock: clocktest.New()}
	w.host = klipstest.NewHost(w.net, nil)
	e, err := engine.New(w.host, engine.Config{Version: "test", Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	w.eng, w.stack = e, e
	for _, d := range []string{"ipsec0", "ipsec1"} {
		if err := e.CreateDevice(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// open is a stack that stays open when an applet closes it.
type open struct{ serial.Doer }

func (open) Close() error { return nil }

// run runs an applet.
func (w *world) run(cmd []string) clitest.Result {
	w.t.Helper()
	app := apps[cmd[0]]
	if app == nil {
		w.t.Fatalf("no applet %q", cmd)
	}
	return clitest.Run(app(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(open{w.stack}) }}, cmd[1:]...)
}

// tables returns the listings by name, as normalised lines.
func (w *world) tables() map[string][]string {
	w.t.Helper()
	ctx := context.Background()
	sas, err := w.stack.SAs(ctx)
	routes, err2 := w.stack.Eroutes(ctx)
	devices, err3 := w.stack.Devices(ctx)
	debug, err4 := w.stack.Debug(ctx)
	for _, err := range []error{err, err2, err3, err4} {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	out := map[string][]string{}
	for name, f := range map[string]func(io.Writer) error{
		"spi":        func(b io.Writer) error { return procfs.WriteSPI(b, sas) },
		"spigrp":     func(b io.Writer) error { return procfs.WriteSPIGrp(b, sas) },
		"eroute":     func(b io.Writer) error { return procfs.WriteEroute(b, routes) },
		"tncfg":      func(b io.Writer) error { return procfs.WriteTncfg(b, devices) },
		"klipsdebug": func(b io.Writer) error { return procfs.WriteKlipsdebug(b, debug) },
	} {
		var b bytes.Buffer
		if err := f(&b); err != nil {
			w.t.Fatal(err)
		}
		out[name] = normal(strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"))
	}
	return out
}

// vary are the parts of the tables that differ between runs.
var vary = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`^((?:esp|ah|comp)0x.*) policy=[^ ]+(.*) flags=0x8<>`), "$1$2"},    // KLIPS has such of tun SAs alone,
	{regexp.MustCompile(`( policy=[^ :]+)(?::\d+)?(->[^ :]+)(?::\d+)?,proto=\d+`), "$1$2"}, // and for all protocols and ports
	{regexp.MustCompile(` jiffies=\d+`), ""},
	{regexp.MustCompile(` iv=0x[0-9a-f]+`), " iv=0x-"}, // its length is in iv_bits
	{regexp.MustCompile(` (ref|refhim|refcount|idle)=\d+`), " $1=-"},
	{regexp.MustCompile(`(addtime|usetime)\(\d+`), "$1(-"},
}

// normal removes from listings what differs between runs. The result for an empty table
// is nil.
func normal(lines []string) []string {
	var out []string
	for _, l := range lines {
		for _, v := range vary {
			l = v.re.ReplaceAllString(l, v.to)
		}
		if l != "" {
			out = append(out, l)
		}
	}
	return out
}

// setAddr sets the host's address, from a prefix ("10.9.0.1/24").
func (w *world) setAddr(prefix string) {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		w.t.Fatal(err)
	}
	w.host.AddAddr(p.Addr())
}
