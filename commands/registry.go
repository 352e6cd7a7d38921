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

// An entry is an applet that can be had. Its App is made only when the applet
// has been chosen, or is to be described.
type entry struct {
	name string
	app  func() *cli.App
}

// registry is the only list of applets, in the order in which people meet them.
var registry = [...]entry{
	{"spi", spi.App},
	{"spigrp", spigrp.App},
	{"eroute", eroute.App},
	{"tncfg", tncfg.App},
	{"klipsdebug", klipsdebug.App},
	{"look", look.App},
	{"manual", manual.App},
	{"batch", batch.App},
	{"pf_key", pf_key.App},
	{"setup", setup.App},
	{"klipsd", klipsd.App},
	{"natt", natt.App},
	{"version", version.App},
	{"ranbits", ranbits.App},
}

// find returns the applet's maker, nil if there is no applet of that name.
func find(name string) func() *cli.App {
	for i := range registry {
		if registry[i].name == name {
			return registry[i].app
		}
	}
	return nil
}
