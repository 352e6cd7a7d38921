package commands

import (
	"github.com/klips-go/ipsec/commands/batch"
	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/klipsd"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/commands/look"
	"github.com/klips-go/ipsec/commands/manual"
	"github.com/klips-go/ipsec/commands/natt"
	"github.com/klips-go/ipsec/commands/pf_key"
	"github.com/klips-go/ipsec/commands/ranbits"
	"github.com/klips-go/ipsec/commands/setup"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/commands/version"
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
		{Name: "up", App: func() *cli.App { return manual.Up(setup.Ensure) }},
		{Name: "down", App: func() *cli.App { return manual.Down(setup.Ensure) }},
		{Name: "route", App: func() *cli.App { return manual.Route(setup.Ensure) }},
		{Name: "unroute", App: func() *cli.App { return manual.Unroute(setup.Ensure) }},
		{Name: "manual", App: manual.App},
		{Name: "batch", App: func() *cli.App { return batch.App(registry()) }},
		{Name: "pf_key", App: pf_key.App},
		{Name: "setup", App: func() *cli.App { return setup.App(manual.Boot) }},
		{Name: "klipsd", App: klipsd.App},
		{Name: "natt", App: natt.App},
		{Name: "version", App: version.App, InFile: true},
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
