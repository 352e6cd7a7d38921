package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/klips-go/ipsec/klips"
)

// forwarding checks whether packets of hosts behind this one are forwarded, if eroutes are for
// such.
func (s *survey) forwarding(context.Context) {
	for _, f := range [...]struct {
		family, param string
		is6           bool
	}{{"IPv4", "net/ipv4/ip_forward", false}, {"IPv6", "net/ipv6/conf/all/forwarding", true}} {
		eroute := s.behind(f.is6)
		n, known := s.sysctl(f.param)
		switch {
		case !known || eroute == nil:
		case n == 0:
			s.add(warning, "forwarding", fmt.Sprintf("%s packets of hosts behind this one, such as those of the eroute %v, are not forwarded", f.family, eroute.Selector),
				"type: sysctl -w "+dotted(f.param)+"=1")
		default:
			s.add(ok, "forwarding", f.family+" packets are forwarded", "")
		}
	}
}

// behind returns an eroute for packets of hosts behind this one; nil: there is none. One
// address is that of a host, which may be this one.
func (s *survey) behind(is6 bool) *klips.Eroute {
	i := slices.IndexFunc(s.eroutes, func(e klips.Eroute) bool { return e.Is6() == is6 && !e.Src.IsSingleIP() && e.Src.Bits() > 0 })
	if i < 0 {
		return nil
	}
	return &s.eroutes[i]
}

// dotted returns a parameter as sysctl(8) writes it.
func dotted(param string) string {
	b := []byte(param)
	for i, c := range b {
		switch c { // the name of a device may have a dot
		case '/':
			b[i] = '.'
		case '.':
			b[i] = '/'
		}
	}
	return string(b)
}

// devices checks the parameters of the devices that packets go through.
func (s *survey) devices(context.Context) {
	for _, d := range s.attached {
		clean := true
		warn := func(state, device, param, result string) {
			clean = false
			s.add(state, device, result, "type: sysctl -w "+dotted("net/ipv4/conf/"+device+"/"+param)+"=0")
		}
		for _, name := range []string{d.Name, d.Physical} {
			// The kernel takes the greater one of rp_filter.
			if all, dev := s.conf("all", "rp_filter"), s.conf(name, "rp_filter"); max(all, dev) == 1 {
				what := "packets that come out of tunnels are dropped if their answers would not leave by it"
				if name == d.Physical {
					what = "packets of a peer are dropped if the answers would leave by another device"
				}
				clean = false
				s.add(warning, name, "rp_filter is strict: "+what, fmt.Sprintf("type: sysctl -w %s=2", dotted("net/ipv4/conf/"+name+"/rp_filter")))
			}
		}
		if s.name == "xfrm" {
			if s.conf("all", "disable_xfrm")|s.conf(d.Physical, "disable_xfrm") != 0 {
				warn(failed, d.Physical, "disable_xfrm", "disable_xfrm is set: packets leave by it in clear")
			}
			if s.conf("all", "disable_policy")|s.conf(d.Physical, "disable_policy") != 0 {
				warn(warning, d.Physical, "disable_policy", "disable_policy is set: packets that should be protected are accepted in clear")
			}
		}
		if clean {
			s.add(ok, d.Name, fmt.Sprintf("the parameters of it and %s do not drop packets", d.Physical), "")
		}
	}
}

// conf returns a parameter of a device in IPv4; 0 if there is none.
func (s *survey) conf(device, param string) int {
	n, _ := s.sysctl("net/ipv4/conf/" + device + "/" + param)
	return n
}

// redirects checks for ICMP redirects, which lead packets past a tunnel.
func (s *survey) redirects(context.Context) {
	forward, _ := s.sysctl("net/ipv4/ip_forward")
	for _, d := range s.attached {
		all, dev := s.conf("all", "send_redirects"), s.conf(d.Physical, "send_redirects")
		if forward != 0 && all|dev != 0 {
			s.add(warning, "redirects", fmt.Sprintf("%s sends ICMP redirects: hosts behind this one may learn a way past the tunnel", d.Physical),
				fmt.Sprintf("type: sysctl -w net.ipv4.conf.all.send_redirects=0 %s=0", dotted("net/ipv4/conf/"+d.Physical+"/send_redirects")))
		}
		// A router takes them only if both are set, another host if one is.
		all, dev = s.conf("all", "accept_redirects"), s.conf(d.Physical, "accept_redirects")
		if forward != 0 && all&dev != 0 || forward == 0 && all|dev != 0 {
			s.add(warning, "redirects", fmt.Sprintf("%s accepts ICMP redirects, with which others can lead packets past the tunnel", d.Physical),
				fmt.Sprintf("type: sysctl -w net.ipv4.conf.all.accept_redirects=0 %s=0", dotted("net/ipv4/conf/"+d.Physical+"/accept_redirects")))
		}
	}
}
