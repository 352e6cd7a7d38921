// Package skip handles tests whose requirements are missing. Such a test is skipped,
// with the reason. It fails if the variable REQUIRE names the requirement. REQUIRE is a
// list of words with commas between them. Continuous integration (.ci/run) lists all of
// them, so that no test is skipped without notice.
//
// No test of this module calls Skip itself.
package skip

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A Word names a requirement of tests.
type Word string

// The words.
const (
	Bash           Word = "bash"
	BIRD           Word = "bird"
	Bridge         Word = "bridge"
	CC             Word = "cc"
	CGroup         Word = "cgroup"
	Demo           Word = "demo"
	DevFull        Word = "devfull"
	ESP            Word = "esp"
	Fish           Word = "fish"
	Flock          Word = "flock"
	FRR            Word = "frr"
	IP             Word = "ip"
	IPv6           Word = "ipv6"
	LittleEndian   Word = "littleendian"
	Lintian        Word = "lintian"
	Long           Word = "long"
	Make           Word = "make"
	Mandoc         Word = "mandoc"
	MTR            Word = "mtr"
	NewerKernel    Word = "newer-kernel"
	NFTables       Word = "nftables"
	NoESP          Word = "noesp"
	NonIKE         Word = "nonike"
	Overlay        Word = "overlay"
	Packages       Word = "packages"
	PFKEY          Word = "pfkey"
	Ping           Word = "ping"
	Processors     Word = "processors"
	PTY            Word = "pty"
	QEMU           Word = "qemu"
	QEMUUser       Word = "qemu-aarch64-static"
	Root           Word = "root"
	RPM            Word = "rpm"
	Rpmlint        Word = "rpmlint"
	Scapy          Word = "scapy"
	Setpriv        Word = "setpriv"
	SystemdAnalyze Word = "systemd-analyze"
	Tcpdump        Word = "tcpdump"
	Tshark         Word = "tshark"
	Tracepath      Word = "tracepath"
	TUN            Word = "tun"
	Userns         Word = "userns"
	Users          Word = "users"
	Xfrm           Word = "xfrm"
	Xfrmi          Word = "xfrmi"
)

// meanings are the requirements in words.
var meanings = map[Word]string{
	Bash:           "the program bash",
	BIRD:           "the routing daemon bird of BIRD 2, and birdc",
	Bridge:         "bridges of the kernel",
	CC:             "a C compiler, cc, with getopt_long in its library",
	CGroup:         "the right to make control groups for memory",
	Demo:           "the demonstration as the program demo, as guests have it",
	DevFull:        "/dev/full",
	ESP:            "ESP of the kernel",
	Fish:           "the program fish",
	Flock:          "the program flock of util-linux",
	FRR:            "the routing daemons zebra and ospf6d of FRR in /usr/lib/frr, and vtysh",
	IP:             "the program ip of iproute2",
	IPv6:           "IPv6 of the kernel",
	LittleEndian:   "a little-endian machine with 64 bits, as the recorded bytes are of one",
	Lintian:        "the program lintian",
	Long:           "no -short",
	Make:           "the program make",
	Mandoc:         "the program mandoc",
	MTR:            "the program mtr",
	NewerKernel:    "a kernel of Linux 6.13 or newer for guests",
	NFTables:       "nftables of the kernel, and the program nft",
	NoESP:          "a kernel with the stack xfrm whose ESP is missing",
	NonIKE:         "ESP in UDP with a non-IKE marker in the kernel, which newer ones have not",
	Overlay:        "root, overlay file systems, and a Debian with dpkg",
	Packages:       "the packages of make pkg, as make test-pkg has them",
	PFKEY:          "PF_KEY sockets of the kernel",
	Ping:           "the program ping",
	Processors:     "SAs of the kernel for one processor, since Linux 6.13",
	PTY:            "pseudo-terminals",
	QEMU:           "QEMU, and a kernel for it",
	QEMUUser:       "the program qemu-aarch64-static",
	Root:           "the right to make network namespaces and raw sockets",
	RPM:            "the program rpm",
	Rpmlint:        "the program rpmlint",
	Scapy:          "python3 with scapy and cryptography",
	Setpriv:        "the program setpriv of util-linux",
	SystemdAnalyze: "the program systemd-analyze of systemd 250 or later",
	Tcpdump:        "the program tcpdump",
	Tshark:         "the program tshark",
	Tracepath:      "the program tracepath of iputils",
	TUN:            "the right to make TUN devices",
	Userns:         "user namespaces for ordinary users",
	Users:          "the right to become another user",
	Xfrm:           "the stack xfrm",
	Xfrmi:          "xfrm interfaces of the kernel",
}

// Words returns all words in alphabetical order.
func Words() []Word { return slices.Sorted(maps.Keys(meanings)) }

// Meaning returns what a word stands for; empty for an unknown word.
func (w Word) Meaning() string { return meanings[w] }

// Without handles a missing requirement w: it skips the test with the reason, or fails
// it if REQUIRE names w. It does not return.
func Without(tb testing.TB, w Word, reason any) {
	tb.Helper()
	required, err := Required(w)
	switch {
	case err != nil:
		tb.Fatal(err)
	case required:
		tb.Fatalf("REQUIRE names %s: %v", w, reason)
	}
	tb.Skipf("needs %s: %v", w, reason)
}

// WithoutProgram calls Without if the program w is not installed. Otherwise it returns
// the program's path.
func WithoutProgram(tb testing.TB, w Word) string {
	tb.Helper()
	path, err := exec.LookPath(string(w))
	if err != nil {
		Without(tb, w, err)
	}
	return path
}

// Required reports whether REQUIRE names w. It returns an error if w or a word in
// REQUIRE is unknown.
func Required(w Word) (bool, error) { return required(os.Getenv("REQUIRE"), w) }

func required(list string, w Word) (bool, error) {
	if w.Meaning() == "" {
		return false, fmt.Errorf("%q is no word for REQUIRE", w)
	}
	found := false
	for item := range strings.SplitSeq(list, ",") {
		switch i := Word(item); {
		case i == w:
			found = true
		case i != "" && i.Meaning() == "":
			return false, fmt.Errorf("REQUIRE names %q, which is no word; there are %v", item, Words())
		}
	}
	return found, nil
}
