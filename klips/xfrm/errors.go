package xfrm

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// wrapError turns a kernel error into an *klips.OpError with the extended ack and the
// likely cause. object is the *nlxfrm.State or *nlxfrm.Policy of the request, nil for
// none. The caller sets the operation.
func wrapError(err error, object any) error {
	op := &klips.OpError{Err: err}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		op.Err = errno
	}
	var e *nlxfrm.Error
	if errors.As(err, &e) && e.Message != "" {
		op.Detail = e.Message
	}
	switch o := object.(type) {
	case *nlxfrm.State:
		op.Object = said(o).String()
		op.Reason = stateCause(o, errno)
		if o.Offload != nil && errno == syscall.EINVAL && strings.Contains(op.Detail, "ffload") {
			op.Err, op.Fault, op.Reason = syscall.EOPNOTSUPP, klips.FaultOffloadRefused, noOffload
		}
	case *nlxfrm.Policy:
		op.Reason = policyCause(o, errno)
	}
	if errno == syscall.EPERM {
		op.Reason = noRight
	}
	return op
}

func said(s *nlxfrm.State) klips.SAID {
	return klips.SAID{Dst: s.Dst, SPI: klips.SPI(s.SPI), Proto: klips.Proto(s.Proto)}
}

const noOffload = "the network device does not take this work: ethtool -k must show esp-hw-offload: on, the kernel have CONFIG_XFRM_OFFLOAD " +
	"and the module esp4_offload or esp6_offload, and the algorithms be some of the device's"

const noRight = "this needs the capability CAP_NET_ADMIN in the user namespace of the network namespace"

// stateCause returns the likely cause of a state's refusal.
func stateCause(s *nlxfrm.State, err syscall.Errno) string {
	switch err {
	case syscall.EPROTONOSUPPORT:
		m := protocolModule(s)
		return fmt.Sprintf("the kernel has no %v for IPv%d: module %s (CONFIG_%s)", klips.Proto(s.Proto), ipVersion(s.Family), m.name, m.config)
	case syscall.ENOSYS, syscall.ENOENT:
		return "the kernel lacks one of the algorithms " + strings.Join(names(s), ", ") + ": modules of these names (CONFIG_CRYPTO_…), authenc and echainiv, or seqiv for combined ones; stack user has them"
	case syscall.EEXIST:
		return "another program has made a state with this SAID"
	case syscall.ESRCH:
		return "another program has removed the state meanwhile; try again"
	case syscall.ENOMEM, syscall.ENOBUFS:
		return "the kernel has no memory left for states"
	}
	return ""
}

func policyCause(p *nlxfrm.Policy, err syscall.Errno) string {
	switch err {
	case syscall.EEXIST:
		return fmt.Sprintf("another program has made the policy %v", p.Key())
	case syscall.ENOMEM, syscall.ENOBUFS:
		return "the kernel has no memory left for policies"
	case syscall.EINVAL:
		if p.IfID != 0 {
			return "kernels before 4.19 have no interface IDs (CONFIG_XFRM_INTERFACE)"
		}
	}
	return ""
}

func ipVersion(family uint16) int {
	if family == nlxfrm.FamilyIPv4 {
		return 4
	}
	return 6
}

type module struct{ name, config string }

func protocolModule(s *nlxfrm.State) module {
	four := s.Family == nlxfrm.FamilyIPv4
	m := map[klips.Proto][2]module{
		klips.ProtoESP:  {{"esp4", "INET_ESP"}, {"esp6", "INET6_ESP"}},
		klips.ProtoAH:   {{"ah4", "INET_AH"}, {"ah6", "INET6_AH"}},
		klips.ProtoComp: {{"ipcomp", "INET_IPCOMP"}, {"ipcomp6", "INET6_IPCOMP"}},
	}[klips.Proto(s.Proto)]
	if four {
		return m[0]
	}
	return m[1]
}

// names returns the names of a state's algorithms.
func names(s *nlxfrm.State) (l []string) {
	if s.Crypt != nil {
		l = append(l, s.Crypt.Name)
	}
	if s.Auth != nil {
		l = append(l, s.Auth.Name)
	}
	if s.AEAD != nil {
		l = append(l, s.AEAD.Name)
	}
	if s.Comp != "" {
		l = append(l, s.Comp)
	}
	return l
}
