package verify

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rights checks the capabilities of this process.
func (s *survey) rights(context.Context) {
	text, err := s.read("proc/self/status")
	if err != nil {
		s.add(unknown, "rights", "not known: "+err.Error(), "")
		return
	}
	var caps uint64
	for line := range strings.Lines(text) {
		if hex, found := strings.CutPrefix(line, "CapEff:"); found {
			caps, _ = strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		}
	}
	var lacks []string
	for _, c := range [...]struct {
		bit  uint
		name string
	}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}} {
		if caps>>c.bit&1 == 0 {
			lacks = append(lacks, c.name)
		}
	}
	switch {
	case len(lacks) == 0:
		s.add(ok, "rights", "this process may change the network", "")
	case s.euid != 0:
		s.add(unknown, "rights", "this user is not root, so some of these checks are not complete", "run it as root")
	default:
		s.add(failed, "rights", "root lacks "+strings.Join(lacks, " and ")+" here", "start the container with these capabilities, as in --cap-add "+strings.Join(lacks, " --cap-add "))
	}
}

// namespaces checks the namespaces of this process.
func (s *survey) namespaces(context.Context) {
	if text, err := s.read("proc/self/uid_map"); err == nil {
		// The first user namespace maps all 2³²-1 users to themselves.
		if f := strings.Fields(text); len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295" {
			s.add(warning, "user namespace", "root here is an ordinary user of the machine: modules are not loaded for it, and stack xfrm or /dev/net/tun may be refused", "use stack user, and give the container /dev/net/tun")
		} else {
			s.add(ok, "user namespace", "that of the machine", "")
		}
	}
	for _, file := range []string{"run/.containerenv", ".dockerenv"} {
		if s.has(file) {
			s.add(ok, "container", "this is a container; its kernel and modules are those of the machine", "")
			break
		}
	}
	if n, known := s.sysctl("user/max_net_namespaces"); known && n == 0 {
		s.add(warning, "network namespaces", "none can be made, so stack xfrm cannot try what the kernel has", "type: sysctl -w user.max_net_namespaces=1000")
	}
}

// tunDevice checks whether TUN devices can be made, which stack user needs.
func (s *survey) tunDevice(context.Context) {
	if s.name != "" && s.name != "user" {
		return
	}
	const path = "/dev/net/tun"
	err := s.openable(filepath.Join(s.root, path))
	switch {
	case err == nil:
		s.add(ok, path, "stack user can make its devices", "")
	case !s.has(path):
		s.add(failed, path, "it is not there, so stack user cannot make its devices", "type: modprobe tun; in a container give it the device, as in --device /dev/net/tun")
	case s.euid != 0:
		s.add(unknown, path, "this user may not open it", "")
	default:
		s.add(failed, path, fmt.Sprintf("it cannot be opened: %v", err), "type: modprobe tun; in a container allow the device, as in --device /dev/net/tun")
	}
}
