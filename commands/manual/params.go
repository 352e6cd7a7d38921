package manual

import "strings"

// params are the parameters of a conn that this applet knows. "*" at the front
// stands for left and right.
var params = [...]string{
	"type", "spi", "spibase", "esp", "espenckey", "espauthkey", "espreplay_window",
	"ah", "ahkey", "ahreplay_window",
	"*", "*subnet", "*nexthop", "*updown", "*firewall",
	"*espenckey", "*espauthkey", "*ahkey", "*espspi", "*ahspi",
}

// ikeParams are those of connections that a key daemon negotiates. They mean
// nothing here, and a file may serve both.
var ikeParams = [...]string{
	"aggrmode", "aggressive", "auth", "authby", "auto", "compress", "connalias", "connaddrfamily",
	"disablearrivalcheck", "dpdaction", "dpddelay", "dpdtimeout", "failureshunt", "fragmentation",
	"ike", "ikelifetime", "ikev2", "initial-contact", "keyexchange", "keyingtries", "keylife", "lifetime",
	"mark", "metric", "modecfgpull", "mtu", "negotiationshunt", "nm_configured", "pfs", "pfsgroup", "phase2", "phase2alg",
	"priority", "rekey", "rekeyfuzz", "rekeymargin", "remote_peer_type", "reqid", "salifetime", "sareftrack", "sha2_truncbug",
	"*ca", "*cert", "*groups", "*id", "*modecfgclient", "*modecfgserver", "*policy", "*rsasigkey", "*rsasigkey2",
	"*sendcert", "*xauthclient", "*xauthserver", "*xauthusername",
}

// lostParams are ignored too, but change which packets are protected or how.
var lostParams = [...]string{"forceencaps", "overlapip", "*protoport", "*sourceip", "*subnets", "*subnetwithin"}

// in reports whether list has the parameter.
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

// allParams are the names of what has a meaning here, with left and right
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
