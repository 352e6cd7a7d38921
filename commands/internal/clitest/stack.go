package clitest

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/serial"
)

// A Stack records its calls: Messages are the PF_KEY messages that a KLIPS kernel would
// receive, Ioctls the calls for devices. It stores nothing else except the SAIDs that
// were added.
type Stack struct {
	Caps     map[klips.Capability]bool
	Messages []string       // in hex
	Specs    []klips.SASpec // the arguments of AddSA, without keys
	Ioctls   []string       // "attach ipsec0 eth0", "detach ipsec0", "clear"
	Lists    []string       // tables that were read
	Closed   int

	SendErr   error // the error of messages:
	SendErrAt int   // of this one only, from 1; 0: of each
	IoctlErr  error
	ListErr   error
	Refs      [2]uint32  // SA references that GetSA returns
	NoSAs     bool       // ReadGroup finds no SA
	Local     netip.Addr // SAs to it are inbound

	added map[klips.SAID]bool
}

var _ serial.Doer = (*Stack)(nil)

// send records a message. A message that cannot be built is an error.
func (s *Stack) send(op, object string, m *pfkey.Message) error {
	m.Seq = uint32(len(s.Messages) + 1)
	b, err := m.Marshal()
	if err != nil {
		return &klips.OpError{Op: op, Object: object, Err: fmt.Errorf("building the message: %w", err)}
	}
	s.Messages = append(s.Messages, hex.EncodeToString(b))
	if s.SendErr != nil && (s.SendErrAt == 0 || s.SendErrAt == len(s.Messages)) {
		return &klips.OpError{Op: op, Object: object, Err: s.SendErr}
	}
	return nil
}

func (s *Stack) ioctl(format string, args ...any) error {
	s.Ioctls = append(s.Ioctls, fmt.Sprintf(format, args...))
	if s.IoctlErr != nil {
		return &klips.OpError{Op: "ioctl", Err: s.IoctlErr}
	}
	return nil
}

func (s *Stack) list(table string) error {
	s.Lists = append(s.Lists, table)
	if s.ListErr != nil {
		return &klips.OpError{Op: "list", Object: table, Err: s.ListErr}
	}
	return nil
}

// Asked reports whether the stack was called.
func (s *Stack) Asked() bool {
	return len(s.Messages) > 0 || len(s.Ioctls) > 0 || len(s.Lists) > 0
}

// Name returns "klips".
func (s *Stack) Name() string { return "klips" }

// Version returns a version line.
func (s *Stack) Version(context.Context) (string, error) { return "Openswan version: test", nil }

// Has looks c up in Caps.
func (s *Stack) Has(c klips.Capability) bool { return s.Caps[c] }

// AddSA sends ADD.
func (s *Stack) AddSA(_ context.Context, spec *klips.SASpec) error {
	c := *spec
	c.AuthKey, c.EncKey = nil, nil
	s.Specs = append(s.Specs, c)
	if err := s.send("add SA", spec.ID.String(), pfkey.AddSA(spec)); err != nil {
		return err
	}
	if s.added == nil {
		s.added = map[klips.SAID]bool{}
	}
	s.added[spec.ID] = true
	return nil
}

// DeleteSA sends DELETE.
func (s *Stack) DeleteSA(_ context.Context, id klips.SAID) error {
	return s.send("delete SA", id.String(), pfkey.DeleteSA(id))
}

// GetSA sends GET, unless the SA was added here: then the reply to ADD had the answer.
func (s *Stack) GetSA(_ context.Context, id klips.SAID) (klips.SA, error) {
	sa := klips.SA{ID: id, Ref: s.Refs[0], RefHim: s.Refs[1]}
	if s.added[id] {
		return sa, nil
	}
	return sa, s.send("get SA", id.String(), pfkey.GetSA(id))
}

// ReadGroup returns the SA alone, without a group, unless NoSAs is set.
func (s *Stack) ReadGroup(_ context.Context, id klips.SAID) ([]klips.SA, error) {
	if s.NoSAs {
		return nil, &klips.OpError{Op: "get SA", Object: id.String(), Err: syscall.ESRCH}
	}
	sa := klips.SA{ID: id}
	if id.Dst == s.Local {
		sa.Dir = klips.Inbound
	}
	return []klips.SA{sa}, nil
}

// ClearSAs sends FLUSH.
func (s *Stack) ClearSAs(context.Context) error { return s.send("clear SAs", "", pfkey.Flush()) }

// Group sends one X_GRPSA for each pair, as KLIPS' tool does.
func (s *Stack) Group(_ context.Context, ids []klips.SAID) error {
	if len(ids) < 2 || len(ids) > klips.MaxGroup {
		return &klips.OpError{Op: "group", Err: syscall.EINVAL}
	}
	for i := 1; i < len(ids); i++ {
		if err := s.send("group", ids[i-1].String(), pfkey.GroupPair(ids[i-1], ids[i])); err != nil {
			return err
		}
	}
	return nil
}

// Ungroup sends X_GRPSA with one SA.
func (s *Stack) Ungroup(_ context.Context, id klips.SAID) error {
	return s.send("ungroup", id.String(), pfkey.Ungroup(id))
}

// SetEroute sends X_ADDFLOW.
func (s *Stack) SetEroute(_ context.Context, e klips.Eroute, op klips.ErouteOp) error {
	return s.send("set eroute", "", pfkey.AddFlow(e, op))
}

// DeleteEroute sends X_DELFLOW.
func (s *Stack) DeleteEroute(_ context.Context, sel klips.Selector) error {
	return s.send("delete eroute", "", pfkey.DelFlow(sel))
}

// ClearEroutes sends X_DELFLOW with the flag.
func (s *Stack) ClearEroutes(context.Context) error {
	return s.send("clear eroutes", "", pfkey.ClearFlows())
}

// Attach records an ioctl.
func (s *Stack) Attach(_ context.Context, virtual, physical string) error {
	return s.ioctl("attach %s %s", virtual, physical)
}

// Detach records an ioctl.
func (s *Stack) Detach(_ context.Context, virtual string) error {
	return s.ioctl("detach %s", virtual)
}

// DetachAll records an ioctl.
func (s *Stack) DetachAll(context.Context) error { return s.ioctl("clear") }

// CreateDevice sends X_PLUMBIF.
func (s *Stack) CreateDevice(_ context.Context, virtual string) error { return s.plumb(virtual, true) }

// DeleteDevice sends X_UNPLUMBIF.
func (s *Stack) DeleteDevice(_ context.Context, virtual string) error { return s.plumb(virtual, false) }

func (s *Stack) plumb(virtual string, create bool) error {
	m, err := pfkey.Plumb(virtual, create)
	if err != nil {
		return &klips.OpError{Op: "plumb", Object: virtual, Err: err}
	}
	return s.send("plumb", virtual, m)
}

// SetDebug sends X_DEBUG.
func (s *Stack) SetDebug(_ context.Context, c klips.DebugChange) error {
	return s.send("debug", "", pfkey.Debug(c))
}

// SAs returns an empty table.
func (s *Stack) SAs(context.Context) ([]klips.SA, error) { return nil, s.list("spi") }

// Eroutes returns an empty table.
func (s *Stack) Eroutes(context.Context) ([]klips.Eroute, error) { return nil, s.list("eroute") }

// Devices returns an empty table.
func (s *Stack) Devices(context.Context) ([]klips.Device, error) { return nil, s.list("tncfg") }

// Debug returns zero masks.
func (s *Stack) Debug(context.Context) (klips.Debug, error) {
	return klips.Debug{}, s.list("klipsdebug")
}

// Close counts its calls.
func (s *Stack) Close() error { s.Closed++; return nil }
