package render

import (
	"fmt"
	"strings"
)

// A Format is a language.
type Format struct {
	Name string // as on the command line
	Help string // what its text is for
	// render writes a Config.
	render func(*Config) Text
}

// Formats returns the languages of this package, in the order of usage texts.
func Formats() []Format {
	return []Format{
		{"wireshark", "the file esp_sa of Wireshark and tshark", wireshark},
		{"tcpdump", "a file for tcpdump -E", tcpdump},
		{"ip-xfrm", "commands for ip -batch of iproute2", ipXfrm},
		{"setkey", "a file for setkey -f of NetBSD, FreeBSD and ipsec-tools", setkey},
		{"ipsecctl", "a file for ipsecctl -f of OpenBSD", ipsecctl},
		{"vpp", "commands for the CLI of VPP", vpp},
		{"cisco", "a crypto map with manual keys for Cisco IOS", cisco},
		{"scapy", "Python with a SecurityAssociation of scapy for each SA", scapy},
		{"ipsec", "commands for ipsec batch", ipsecCommands},
	}
}

// Render writes a Config in a language. The caller clears the text if the Config has keys.
func Render(format string, c *Config) (Text, error) {
	var names []string
	for _, f := range Formats() {
		if f.Name == format {
			return f.render(c), nil
		}
		names = append(names, f.Name)
	}
	return Text{}, fmt.Errorf("no such format; there are %s", strings.Join(names, ", "))
}
