// Command ipsec keys IPsec by hand: security associations, groups of them and
// the eroutes that lead into them.
package main

import (
	"os"

	"github.com/klips-go/ipsec/commands"
)

func main() { os.Exit(commands.Main(os.Args)) }
