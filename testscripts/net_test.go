package testscripts

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/klips-go/ipsec/testscripts/lab"
)

type scriptCommand = func(ts *testscript.TestScript, neg bool, args []string)

var scriptCommands = map[string]scriptCommand{
	"addns":    plain("addns NAME...", 1, 99, cmdAddNS),
	"gateways": plain("gateways", 0, 0, cmdGateways),
	"link":     plain("link A DEV ADDRS B DEV ADDRS", 6, 6, cmdLink),
	"addr":     plain("addr NAME DEV ADDR...", 3, 99, cmdAddr),
	"route":    plain("route NAME NET [via GW] [dev DEV] [src ADDR]", 2, 8, cmdRoute),
	"sysctl":   plain("sysctl NAME KEY VALUE", 3, 3, cmdSysctl),
	"mtu":      plain("mtu NAME DEV BYTES", 3, 3, cmdMTU),
	"up":       plain("up NAME DEV", 2, 2, cmdUp),
	"capture":  plain("capture NAME DEV FILE", 3, 3, cmdCapture),
	"pcap":     plain("pcap [-a|-t] FILE", 1, 2, cmdPcap),
	"layers":   plain("layers KEYS FILE", 2, 2, cmdLayers),
	"scapy":    plain("scapy KEYS FILE", 2, 2, cmdScapy),
	"memgroup": plain("memgroup BYTES", 1, 1, cmdMemGroup),
	"ping":     cmdPing,
	"await":    plain("await PROG ARG...", 1, 99, cmdAwait),
	"serve":    plain("serve NAME tcp|udp ADDR:PORT", 3, 3, cmdServe),
	"dial":     cmdDial,
	"replay":   plain("replay NAME DEV FILE [N]", 3, 4, cmdReplay),
	"forge":    plain("forge NAME ADDR PROTO HEX", 4, 4, cmdForge),
	"knock":    cmdKnock,
	"holds":    cmdHolds,
	"metrics":  plain("metrics FILE ['NAME [LABEL=VALUE...]: SUM'...]", 1, 99, cmdMetrics),
	"json":     plain("json APPLET FILE [PATH=VALUE...]", 2, 99, cmdJSON),
}

// plain returns a script command that cannot be negated and takes least to most
// arguments.
func plain(usage string, least, most int, f func(ts *testscript.TestScript, args []string)) scriptCommand {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < least || len(args) > most {
			ts.Fatalf("usage: %s", usage)
		}
		f(ts, args)
	}
}

func cmdAddNS(ts *testscript.TestScript, args []string) {
	for _, name := range args {
		h, err := lab.NewHost(name)
		ts.Check(err)
		addHost(ts, h)
	}
}

// addHost adds a host to the script.
func addHost(ts *testscript.TestScript, h *lab.Host) {
	w := worldOf(ts)
	w.hosts[h.Name] = h
	ts.Check(os.Symlink(h.NetNS(), filepath.Join(w.work, ".netns", h.Name)))
	ts.Check(os.MkdirAll(lab.RunDir(w.work, h.Name), 0o700))
}

func cmdLink(ts *testscript.TestScript, args []string) {
	a, b := host(ts, args[0]), host(ts, args[3])
	ts.Check(lab.Cable(a, args[1], b, args[4]))
	addAddrs(ts, a, args[1], strings.Split(args[2], ","))
	addAddrs(ts, b, args[4], strings.Split(args[5], ","))
}

func cmdAddr(ts *testscript.TestScript, args []string) {
	addAddrs(ts, host(ts, args[0]), args[1], args[2:])
}

func addAddrs(ts *testscript.TestScript, h *lab.Host, dev string, addrs []string) {
	for _, text := range addrs {
		if text == "-" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		ts.Check(err)
		ts.Check(h.AddAddr(dev, p))
	}
}

func cmdRoute(ts *testscript.TestScript, args []string) {
	var r lab.Route
	var err error
	r.Dst, err = netip.ParsePrefix(args[1])
	ts.Check(err)
	for rest := args[2:]; len(rest) > 0; rest = rest[2:] {
		if len(rest) == 1 {
			ts.Fatalf("route: %s without a value", rest[0])
		}
		switch rest[0] {
		case "via":
			r.Via, err = netip.ParseAddr(rest[1])
		case "src":
			r.Src, err = netip.ParseAddr(rest[1])
		case "dev":
			r.Dev = rest[1]
		default:
			ts.Fatalf("route: unknown word %q", rest[0])
		}
		ts.Check(err)
	}
	ts.Check(host(ts, args[0]).AddRoute(r))
}

func cmdSysctl(ts *testscript.TestScript, args []string) {
	ts.Check(host(ts, args[0]).Sysctl(args[1], args[2]))
}

func cmdMTU(ts *testscript.TestScript, args []string) {
	ts.Check(host(ts, args[0]).SetMTU(args[1], number(ts, args[2])))
}

func cmdUp(ts *testscript.TestScript, args []string) {
	ts.Check(host(ts, args[0]).Up(args[1]))
}

func number(ts *testscript.TestScript, text string) int {
	n, err := strconv.Atoi(text)
	ts.Check(err)
	return n
}
