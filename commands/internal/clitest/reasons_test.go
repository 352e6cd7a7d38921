package clitest_test

import (
	"io"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/syntax"
)

// reasons are the intended differences from the classic tools; the first that matches
// counts. Each text describes the new behaviour.
var reasons = []struct {
	text string
	n    int // number of matching recordings of the last release
	fits func(d *difference) bool
}{
	{"--help, -h and --version have status 0", 57, func(d *difference) bool {
		return d.taken() && !d.asked && (strings.Contains(d.got.Out, "Usage:") || strings.HasSuffix(d.got.Out, " 1.2.3\n"))
	}},
	{"arguments that nothing asks for are refused, not ignored", 24, func(d *difference) bool {
		return d.refused("unexpected argument")
	}},
	{"a kernel's answer that does not come or cannot be read is an error", 8, func(d *difference) bool {
		return d.Tool == "spi" && d.asked && d.failed(io.ErrUnexpectedEOF, syscall.EINVAL, syscall.EMSGSIZE)
	}},
	{"names are looked up wherever an address stands, as the manual page has it (and Openswan)", 25, func(d *difference) bool {
		return d.taken() && d.arg("gw1", "gw2", "gw6")
	}},
	{"keys of a wrong length are found before the kernel refuses them (EINVAL)", 141, func(d *difference) bool {
		return d.Tool == "spi" && d.wrong(syntax.KeyLength)
	}},
	{"algorithm and protocol of an SA must go together", 54, func(d *difference) bool {
		return d.Tool == "spi" && d.refused(" makes SAs of protocol ")
	}},
	{"%pass, %trap and so on are no SAs; a kernel answers ESRCH or EINVAL", 9, func(d *difference) bool {
		return d.Tool == "spi" && d.refused("is a verdict for eroutes and no SA")
	}},
	{"SPIs above 32 bits are refused, not cut", 15, func(d *difference) bool {
		return d.wrong(syntax.SPI) && d.wrong(syntax.Range)
	}},
	{"--get after another action is refused like any second action", 4, func(d *difference) bool {
		return d.Tool == "spi" && d.arg("--get") && d.refused("; give one of --ah")
	}},
	{"numbers have no sign and no blanks, are not empty and are not cut to their field", 19, func(d *difference) bool {
		return d.wrong(syntax.Range, syntax.Digit, syntax.Empty) || d.Tool == "eroute" && d.wrong(syntax.Word)
	}},
	{"NAT-T types are those a kernel takes: 0, 1, 2", 8, func(d *difference) bool {
		return d.Tool == "spi" && d.arg("--natt") && d.wrong(syntax.Word)
	}},
	{"a port after a subnet is refused, not dropped", 7, func(d *difference) bool {
		return d.Tool == "eroute" && d.wrong(syntax.Port)
	}},
	{"an IPv4 prefix length above 32 is refused, not read as a mask", 2, func(d *difference) bool {
		return d.Tool == "eroute" && d.wrong(syntax.PrefixLength)
	}},
	{"source and destination of an eroute are of one family", 5, func(d *difference) bool {
		return d.Tool == "eroute" && d.refused("are of different families")
	}},
	{"--af after --edst must name its family", 2, func(d *difference) bool {
		return d.Tool == "eroute" && d.refused(", but --af says ")
	}},
	{"--eraf after --src or --dst must name its family", 1, func(d *difference) bool {
		return d.Tool == "eroute" && d.refused(", but --eraf says ")
	}},
	{"%passthrough is allowed for eroutes, as the usage text always said", 12, func(d *difference) bool {
		return d.Tool == "eroute" && d.taken() && d.arg("%passthrough")
	}},
	{"names that no device can have are refused, not cut", 43, func(d *difference) bool {
		return d.Tool == "tncfg" && d.refused("names of devices have", "not the name of a virtual device", "devices are ipsec0 to ipsec63")
	}},
	{"--attach needs --virtual (as in Openswan), and two devices", 4, func(d *difference) bool {
		return d.Tool == "tncfg" && d.refused("--attach needs --virtual", "--virtual and --physical are both")
	}},
	{"the area is called ipcomp too, as in the usage text", 6, func(d *difference) bool {
		return d.Tool == "klipsdebug" && d.taken() && d.arg("ipcomp")
	}},
	{"ciphers that no stack has, blanks and Diffie-Hellman groups in --esp are refused", 11, func(d *difference) bool {
		return d.Tool == "spi" && d.arg("aes_ctr", " aes128", "aes128-sha1 ", ";modp", "aes_ccm", "camellia", "serpent", "twofish", "aes_gcm_a", "aes_gcm_b") &&
			d.wrong(syntax.Malformed, syntax.Word)
	}},
	{"every name of --esp works with the key its algorithms need; null needs none", 23, func(d *difference) bool {
		return d.Tool == "spi" && d.taken() && d.arg("3des-", "null-", "-96", "aes") && d.want.Impl == recorded.Libreswan311
	}},
	{"--af can be left out: the SA's destination has the family", 1, func(d *difference) bool {
		return d.Tool == "spi" && d.taken() && d.Signal != 0 && d.arg("--edst") && !d.arg("--af")
	}},
	{"an SA named with --clear or eroute --del does not get into the message, where no kernel looks at it", 87, func(d *difference) bool {
		return d.what != "" && (d.wantType("09") || d.wantType("0f"))
	}},
	{"--src and --replay_window with --del or --get do not get into the message, where no kernel looks at them", 4, func(d *difference) bool {
		return d.Tool == "spi" && d.what != "" && (d.wantType("04") || d.wantType("05")) && d.arg("--src", "--replay_window")
	}},
	{"limits have 64 bits, and a limit of zero is none", 4, func(d *difference) bool {
		return d.Tool == "spi" && d.what != "" && d.arg("--life") && d.arg("=0", "=4294967296", "=18446744073709551615", "=4294967295", "=-1")
	}},
	{"an SA's source is of the family of its destination", 1, func(d *difference) bool {
		return d.Tool == "spi" && d.what != "" && d.arg("--ip4", "--ip6") && d.arg("--af")
	}},
	{"-- alone lists, like no argument", 2, func(d *difference) bool {
		return d.taken() && len(d.Args) == 1 && d.Args[0] == "--"
	}},
	{"names of physical devices go whole to the stack, which refuses them if they do not fit", 4, func(d *difference) bool {
		return d.Tool == "tncfg" && d.what != "" && strings.HasPrefix(d.what, "sent\n  attach ")
	}},
	{"the stack chooses, not a file of the kernel's own IPsec (Openswan gives up there)", 1, func(d *difference) bool {
		return d.taken() && d.Env["KLIPS_PROC"] == "netkey" && d.want.Impl == recorded.Openswan300
	}},
	{"of a group of which the tables lack an SA nothing is made, so that nothing has to be taken back", 3, func(d *difference) bool {
		return d.Tool == "spigrp" && d.failed(syscall.ENOENT)
	}},
	{"an IPv6 eroute with a protocol is refused: a kernel stores the protocol in the source address, and the eroute takes other packets", 20, func(d *difference) bool {
		return d.Tool == "eroute" && d.fault(klips.FaultFlow6)
	}},
	{"a key that the algorithm has no use for is not sent", 8, func(d *difference) bool {
		return d.Tool == "spi" && d.what != "" && strings.Contains(d.got.Err, " is not used")
	}},
}

// wantType reports whether the first message of the classic tool has this type, in hex.
func (d *difference) wantType(hex string) bool {
	return len(d.want.messages) > 0 && d.want.messages[0][2:4] == hex
}

// reasonFor returns the index of the reason for a difference, or -1.
func reasonFor(d *difference) int {
	for i, r := range reasons {
		if r.fits(d) {
			return i
		}
	}
	return -1
}
