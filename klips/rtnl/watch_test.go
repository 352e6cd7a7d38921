package rtnl

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Default routes are reported apart from others, which a message too short for a route
// may be.
func TestNews(t *testing.T) {
	message := func(typ netlink.HeaderType, data ...byte) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: typ}, Data: data}
	}
	route := func(typ netlink.HeaderType, family, bits byte) netlink.Message {
		return message(typ, family, bits, 0, 0, unix.RT_TABLE_MAIN, 0, 0, 0, 0, 0, 0, 0)
	}
	for _, tt := range []struct {
		name                       string
		messages                   []netlink.Message
		devices, byDefault, routes bool
	}{
		{"none", nil, false, false, false},
		{"a default route comes", []netlink.Message{route(unix.RTM_NEWROUTE, unix.AF_INET, 0)}, false, true, true},
		{"one of IPv6 goes", []netlink.Message{route(unix.RTM_DELROUTE, unix.AF_INET6, 0)}, false, true, true},
		{"others", []netlink.Message{route(unix.RTM_NEWROUTE, unix.AF_INET, 8), route(unix.RTM_DELROUTE, unix.AF_INET6, 64)}, false, false, true},
		{"others and one", []netlink.Message{route(unix.RTM_NEWROUTE, unix.AF_INET, 8), route(unix.RTM_NEWROUTE, unix.AF_INET, 0)}, false, true, true},
		{"an address", []netlink.Message{message(unix.RTM_NEWADDR, 0, 0)}, true, false, false},
		{"a route and a device", []netlink.Message{route(unix.RTM_NEWROUTE, unix.AF_INET, 24), message(unix.RTM_NEWLINK)}, true, false, true},
		{"too short", []netlink.Message{message(unix.RTM_NEWROUTE), message(unix.RTM_NEWROUTE, unix.AF_INET, 0)}, false, false, true},
		{"a rule", []netlink.Message{message(unix.RTM_NEWRULE)}, false, false, true},
		{"a neighbour", []netlink.Message{message(unix.RTM_NEWNEIGH, unix.AF_BRIDGE)}, false, false, false},
	} {
		if got, want := newsOf(tt.messages), (News{Default: tt.byDefault, Devices: tt.devices, Routes: tt.routes}); !cmp.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, want)
		}
	}
}
