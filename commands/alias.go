package commands

import "slices"

// An alias is the way in which other versions of this program wrote a command.
type alias struct{ words, means []string }

// aliases are the commands of FreeS/WAN, Openswan and libreswan that lead to applets of
// other names.
var aliases = []alias{
	{[]string{"start"}, []string{"setup", "start"}},
	{[]string{"stop"}, []string{"setup", "stop"}},
	{[]string{"restart"}, []string{"setup", "restart"}},
	{[]string{"auto", "--up"}, []string{"up"}},
	{[]string{"auto", "--start"}, []string{"up"}},
	{[]string{"auto", "--down"}, []string{"down"}},
	{[]string{"auto", "--route"}, []string{"route"}},
	{[]string{"auto", "--ondemand"}, []string{"route"}},
	{[]string{"auto", "--unroute"}, []string{"unroute"}},
	{[]string{"auto", "--status"}, []string{"status"}},
	{[]string{"auto", "--reload"}, []string{"reload"}},
}

// unalias replaces the first words of a command line if they are an alias.
func unalias(args []string) []string {
	for _, a := range aliases {
		if len(args) >= len(a.words) && slices.Equal(args[:len(a.words)], a.words) {
			return slices.Concat(a.means, args[len(a.words):])
		}
	}
	return args
}
