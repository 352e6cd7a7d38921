// Command ipsec creates and lists IPsec security associations, groups and eroutes with
// keys that the user gives.
package main

import (
	"os"

	"github.com/klips-go/ipsec/commands"
)

func main() { os.Exit(commands.Main(os.Args)) }
