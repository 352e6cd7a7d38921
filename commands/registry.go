package commands

import (
	"github.com/klips-go/ipsec/commands/algs"
	"github.com/klips-go/ipsec/commands/barf"
	"github.com/klips-go/ipsec/commands/batch"
	"github.com/klips-go/ipsec/commands/capture"
	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/export"
	"github.com/klips-go/ipsec/commands/genkey"
	"github.com/klips-go/ipsec/commands/importer"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/klipsd"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/commands/look"
	"github.com/klips-go/ipsec/commands/manual"
	"github.com/klips-go/ipsec/commands/metrics"
	"github.com/klips-go/ipsec/commands/monitor"
	"github.com/klips-go/ipsec/commands/mtu"
	"github.com/klips-go/ipsec/commands/natt"
	"github.com/klips-go/ipsec/commands/pf_key"
	"github.com/klips-go/ipsec/commands/ranbits"
	"github.com/klips-go/ipsec/commands/selftest"
	"github.com/klips-go/ipsec/commands/setup"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/commands/top"
	"github.com/klips-go/ipsec/commands/trace"
	"github.com/klips-go/ipsec/commands/verify"
	"github.com/klips-go/ipsec/commands/version"
	"github.com/klips-go/ipsec/commands/why"
)

// registry returns the only list of applets, in the order of the help text.
func registry() []cli.Entry {
	return []cli.Entry{
		{Name: "spi", App: spi.App, InFile: true},
		{Name: "spigrp", App: spigrp.App, InFile: true},
		{Name: "eroute", App: eroute.App, InFile: true},
		{Name: "tncfg", App: tncfg.App, InFile: true},
		{Name: "klipsdebug", App: klipsdebug.App, InFile: true},
		{Name: "look", App: look.App, InFile: true},
		{Name: "top", App: top.App},
		{Name: "trace", App: trace.App},
		{Name: "why", App: why.App},
		{Name: "monitor", App: monitor.App},
		{Name: "capture", App: capture.App},
		{Name: "metrics", App: metrics.App},
		{Name: "new", App: manual.New},
		{Name: "save", App: manual.Save},
		{Name: "up", App: func() *cli.App { return manual.Up(setup.Ensure) }},
		{Name: "down", App: func() *cli.App { return manual.Down(setup.Ensure) }},
		{Name: "route", App: func() *cli.App { return manual.Route(setup.Ensure) }},
		{Name: "unroute", App: func() *cli.App { return manual.Unroute(setup.Ensure) }},
		{Name: "reload", App: func() *cli.App { return manual.Reload(setup.Ensure) }},
		{Name: "apply", App: func() *cli.App { return manual.Apply(setup.Ensure) }},
		{Name: "diff", App: manual.Diff},
		{Name: "rekey", App: manual.Rekey},
		{Name: "status", App: manual.Status},
		{Name: "manual", App: manual.App},
		{Name: "export", App: export.App},
		{Name: "import", App: importer.App},
		{Name: "batch", App: func() *cli.App { return batch.App(registry()) }},
		{Name: "pf_key", App: pf_key.App},
		{Name: "setup", App: func() *cli.App { return setup.App(manual.Boot, manual.Reapply) }},
		{Name: "klipsd", App: func() *cli.App { return klipsd.App(manual.Recorded) }},
		{Name: "natt", App: natt.App},
		{Name: "version", App: version.App, InFile: true},
		{Name: "algs", App: algs.App, InFile: true},
		{Name: "selftest", App: selftest.App, InFile: true},
		{Name: "mtu", App: mtu.App, InFile: true},
		{Name: "showdefaults", App: manual.ShowDefaults},
		{Name: "verify", App: verify.App},
		{Name: "barf", App: func() *cli.App { return barf.App(registry()) }},
		{Name: "genkey", App: genkey.App},
		{Name: "fingerprint", App: manual.Fingerprint},
		{Name: "ranbits", App: ranbits.App, InFile: true},
	}
}

// find returns the constructor of an applet; nil if there is no applet of that name.
func find(name string) func() *cli.App {
	for _, e := range registry() {
		if e.Name == name {
			return e.App
		}
	}
	return nil
}
