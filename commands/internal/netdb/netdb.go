// Package netdb looks up the names of hosts in /etc/hosts and the DNS, and those of
// protocols and services in /etc/protocols and /etc/services as the C library does. In
// these files a name or alias must match exactly, including upper and lower case. A few
// well-known names are built in, for systems without the files.
package netdb

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// The files that a C library reads if no other name service is configured.
const (
	protocolsFile = "/etc/protocols"
	servicesFile  = "/etc/services"
)

// Protocol returns the number of a protocol ("tcp").
func Protocol(name string) (uint16, bool) {
	if n, ok := find(protocolsFile, name); ok {
		return n, true
	}
	n, ok := builtinProtocol(name)
	return n, ok
}

// Service returns the port of a service ("http"). Any protocol matches; the first line
// in the file is used.
func Service(name string) (uint16, bool) {
	if n, ok := find(servicesFile, name); ok {
		return n, true
	}
	n, ok := builtinService(name)
	return n, ok
}

// find looks name up in a file. A line is a name, a number and aliases; in
// /etc/services a slash and the protocol follow the number.
func find(file, name string) (uint16, bool) {
	if name == "" {
		return 0, false
	}
	f, err := os.Open(file)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if n, ok := entry(sc.Text(), name); ok {
			return n, true
		}
	}
	return 0, false
}

// entry returns the number in a line if name is one of its names.
func entry(line, name string) (uint16, bool) {
	if !strings.Contains(line, name) {
		return 0, false
	}
	line, _, _ = strings.Cut(line, "#")
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return 0, false
	}
	number, _, _ := strings.Cut(fields[1], "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return 0, false
	}
	for i, f := range fields {
		if i != 1 && f == name {
			return uint16(n), true
		}
	}
	return 0, false
}

// builtinProtocol returns the numbers of the protocols that eroutes commonly use.
func builtinProtocol(name string) (uint16, bool) {
	switch name {
	case "ip", "IP":
		return 0, true
	case "icmp", "ICMP":
		return 1, true
	case "igmp", "IGMP":
		return 2, true
	case "ipencap", "IP-ENCAP":
		return 4, true
	case "tcp", "TCP":
		return 6, true
	case "udp", "UDP":
		return 17, true
	case "dccp", "DCCP":
		return 33, true
	case "ipv6", "IPv6":
		return 41, true
	case "gre", "GRE":
		return 47, true
	case "esp", "IPSEC-ESP":
		return 50, true
	case "ah", "IPSEC-AH":
		return 51, true
	case "ipv6-icmp", "IPv6-ICMP":
		return 58, true
	case "ospf", "OSPFIGP":
		return 89, true
	case "ipip", "IPIP":
		return 94, true
	case "ipcomp", "IPCOMP":
		return 108, true
	case "vrrp", "VRRP":
		return 112, true
	case "l2tp", "L2TP":
		return 115, true
	case "sctp", "SCTP":
		return 132, true
	case "udplite", "UDPLite":
		return 136, true
	case "mptcp":
		return 262, true
	}
	return 0, false
}

// builtinService returns the ports of a few services.
func builtinService(name string) (uint16, bool) {
	switch name {
	case "ftp":
		return 21, true
	case "ssh":
		return 22, true
	case "telnet":
		return 23, true
	case "smtp":
		return 25, true
	case "domain":
		return 53, true
	case "http", "www":
		return 80, true
	case "pop3":
		return 110, true
	case "ntp":
		return 123, true
	case "snmp":
		return 161, true
	case "bgp":
		return 179, true
	case "https":
		return 443, true
	case "isakmp":
		return 500, true
	case "syslog":
		return 514, true
	case "l2tp", "l2f":
		return 1701, true
	case "ipsec-nat-t":
		return 4500, true
	}
	return 0, false
}

// ProtocolName returns the usual name of a protocol, as [Protocol] accepts it, or its number.
func ProtocolName(n uint8) string {
	for _, name := range [...]string{"icmp", "igmp", "ipencap", "tcp", "udp", "ipv6", "gre", "esp", "ah", "ipv6-icmp", "ospf", "ipcomp", "sctp"} {
		if p, _ := builtinProtocol(name); p == uint16(n) {
			return name
		}
	}
	return strconv.Itoa(int(n))
}
