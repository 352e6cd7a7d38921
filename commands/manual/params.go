package manual

import (
	"strings"

	"github.com/klips-go/ipsec/commands/internal/getopt"
)

// params are the parameters of a conn that this applet uses. "*" at the front stands
// for left and right.
var params = [...]string{
	"type", "spi", "spibase", "esp", "espenckey", "espauthkey", "espreplay_window",
	"ah", "ahkey", "ahreplay_window", "masterkey", "epoch",
	"*", "*subnet", "*nexthop", "*updown", "*firewall",
	"interface", "esn", "encapsulation", "mtu", "mss", "*protoport", "*sourceip", "*natport", "*subnets",
	"*espenckey", "*espauthkey", "*ahkey", "*tunspi", "*espspi", "*ahspi",
}

// ikeParams are parameters of connections with automatic keying. They are ignored here,
// because one file may serve both kinds of connections.
var ikeParams = [...]string{
	"aggrmode", "aggressive", "auth", "authby", "auto", "compress", "connalias", "connaddrfamily",
	"disablearrivalcheck", "dpdaction", "dpddelay", "dpdtimeout", "failureshunt", "fragmentation",
	"ike", "ikelifetime", "ikev2", "initial-contact", "keyexchange", "keyingtries", "keylife", "lifetime",
	"mark", "metric", "modecfgpull", "negotiationshunt", "nm_configured", "pfs", "pfsgroup", "phase2", "phase2alg",
	"priority", "rekey", "rekeyfuzz", "rekeymargin", "remote_peer_type", "reqid", "salifetime", "sareftrack", "sha2_truncbug",
	"*ca", "*cert", "*groups", "*id", "*modecfgclient", "*modecfgserver", "*policy", "*rsasigkey", "*rsasigkey2",
	"*sendcert", "*xauthclient", "*xauthserver", "*xauthusername",
}

// lostParams are ignored too, but they change which packets are protected, or how.
var lostParams = [...]string{"forceencaps", "overlapip", "*subnetwithin"}

// in reports whether list contains the parameter.
func in(list []string, name string) bool {
	for _, p := range list {
		side, both := strings.CutPrefix(p, "*")
		if both && (name == "left"+side || name == "right"+side) || !both && name == p {
			return true
		}
	}
	return false
}

func known(name string) bool {
	return in(params[:], name) || in(ikeParams[:], name) || in(lostParams[:], name)
}

// allParams returns the names of all parameters that are used here, with left and right
// written out.
func allParams() []string {
	list := []string{"also", "alsoflip", "auto"}
	for _, p := range params {
		if side, both := strings.CutPrefix(p, "*"); both {
			list = append(list, "left"+side, "right"+side)
		} else {
			list = append(list, p)
		}
	}
	return list
}

// setupParams are the parameters of config setup in FreeS/WAN, Openswan and libreswan.
// Only interfaces=, hidetos=, manualstart=, forwardcontrol= and rp_filter= are used here.
var setupParams = [...]string{
	"interfaces", "also", "manualstart", "plutobackgroundload", "plutoload", "plutostart", "plutowait", "pluto", "plutodebug",
	"plutoopts", "plutostderrlog", "plutorestartoncrash", "plutofork", "prepluto", "postpluto", "dumpdir", "klipsdebug",
	"overridemtu", "fragicmp", "hidetos", "forwardcontrol", "rp_filter", "syslog", "packetdefault", "uniqueids",
	"nat_traversal", "virtual_private", "disable_port_floating", "force_keepalive", "force_busy", "keep_alive", "nhelpers",
	"protostack", "crlcheckinterval", "strictcrlpolicy", "ocspuri", "ocspcacheparams", "cachecrls", "myid", "secctx-attr-type",
	"secctx_attr_value", "listen", "listen-tcp", "ikeport", "nat-ikeport", "logfile", "logtime", "logappend", "logip",
	"statsbin", "perpeerlog", "perpeerlogdir", "ipsecdir", "nssdir", "secretsfile", "statusfile", "oe", "ddos-mode",
	"ddos-ike-threshold", "max-halfopen-ike", "shuntlifetime", "xfrmlifetime", "seedbits", "drop-oppo-null", "dnssec-enable",
	"curl-iface", "curl-timeout", "crl-strict", "ocsp-enable", "ocsp-strict", "probe-psk", "no_eroute_pass", "opportunistic",
}

func knownSetup(name string) bool { return in(setupParams[:], name) }

// setupHint returns the advice for an unknown parameter of config setup.
func setupHint(name string) string {
	if near := getopt.Nearest(name, setupParams[:]); near != "" {
		return "there is no such parameter; did you mean " + near + "?"
	}
	return "there is no such parameter; it has no effect"
}
