package batch

import (
	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/commands/look"
	"github.com/klips-go/ipsec/commands/ranbits"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/commands/version"
)

// Entries are a registry for tests.
var Entries = []cli.Entry{
	{Name: "spi", App: spi.App, InFile: true}, {Name: "spigrp", App: spigrp.App, InFile: true},
	{Name: "eroute", App: eroute.App, InFile: true}, {Name: "tncfg", App: tncfg.App, InFile: true},
	{Name: "klipsdebug", App: klipsdebug.App, InFile: true}, {Name: "look", App: look.App, InFile: true},
	{Name: "version", App: version.App, InFile: true}, {Name: "ranbits", App: ranbits.App, InFile: true},
	{Name: "batch"}, {Name: "setup"}, {Name: "klipsd"}, {Name: "manual"}, {Name: "pf_key"},
}

func app() *cli.App { return App(Entries) }
