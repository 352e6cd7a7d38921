package xfrm

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// TestWrapError: errors of the kernel get their likely cause.
func TestWrapError(t *testing.T) {
	esp := &nlxfrm.State{ID: nlxfrm.ID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: 50}, Family: nlxfrm.FamilyIPv4,
		Crypt: &nlxfrm.Algorithm{Name: "cbc(aes)"}}
	ah6 := &nlxfrm.State{ID: nlxfrm.ID{Dst: netip.MustParseAddr("2001:db8::2"), SPI: 0x100, Proto: 51}, Family: nlxfrm.FamilyIPv6}
	offload := *esp
	offload.Offload = &nlxfrm.Offload{IfIndex: 7}
	policy := &nlxfrm.Policy{Selector: nlxfrm.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}, Dir: nlxfrm.DirOut}
	for _, k := range []struct {
		object any
		err    error
		is     syscall.Errno
		says   string
	}{
		{esp, syscall.EPROTONOSUPPORT, syscall.EPROTONOSUPPORT, "module esp4 (CONFIG_INET_ESP)"},
		{ah6, syscall.EPROTONOSUPPORT, syscall.EPROTONOSUPPORT, "module ah6 (CONFIG_INET6_AH)"},
		{esp, syscall.ENOENT, syscall.ENOENT, "lacks one of the algorithms cbc(aes)"},
		{esp, syscall.ENOBUFS, syscall.ENOBUFS, "no memory left for states"},
		{esp, syscall.ENOMEM, syscall.ENOMEM, "no memory left for states"},
		{policy, syscall.ENOMEM, syscall.ENOMEM, "no memory left for policies"},
		{policy, syscall.EEXIST, syscall.EEXIST, "another program has made the policy"},
		{esp, syscall.EEXIST, syscall.EEXIST, "another program has made a state"},
		{esp, syscall.ESRCH, syscall.ESRCH, "another program has removed"},
		{esp, syscall.EPERM, syscall.EPERM, "CAP_NET_ADMIN"},
		{&offload, &nlxfrm.Error{Err: syscall.EINVAL, Message: "Type doesn't support offload"}, syscall.EOPNOTSUPP, "esp4_offload"},
	} {
		err := wrapError(k.err, k.object)
		var op *klips.OpError
		wantFault := klips.FaultNone
		if k.object == &offload {
			wantFault = klips.FaultOffloadRefused
		}
		if !errors.Is(err, k.is) || !errors.As(err, &op) || op.Fault != wantFault || !strings.Contains(op.Reason, k.says) {
			t.Errorf("%v of %v: %v, fault %v, reason %q", k.err, k.object, err, op.Fault, op.Reason)
		}
	}
}

// TestRelease: only kernels older than Linux 4.19 are tested for interface IDs.
func TestRelease(t *testing.T) {
	for release, older := range map[string]bool{
		"6.1.0-56-cloud-amd64": false, "4.19.0": false, "5.4.0-rc1": false, "10.0": false,
		"4.18.0-553.el8.x86_64": true, "4.4.60": true, "3.10.0-1160": true, "": true, "unknown": true,
	} {
		if olderThan419(release) != older {
			t.Errorf("%q: older than 4.19 is %v", release, !older)
		}
	}
}
