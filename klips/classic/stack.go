package classic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/udpport"
	"github.com/klips-go/ipsec/klips/netlock"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/serial"
)

// callTimeout is how long a kernel may take to answer. KLIPS answers before write
// returns, so this limit is for a stack behind a unix socket, or a broken one.
const callTimeout = 5 * time.Second

// A Stack drives the KLIPS of this kernel. PF_KEY is opened when first needed, since
// every user may read the tables.
type Stack struct {
	pfkey.Asker
	machine Machine
	timeout time.Duration
	// algorithms returns the content of pf_key_supported, read once.
	algorithms func() (algorithms, error)

	// lock is held by Apply, from reading the tables until the changes are complete:
	// KLIPS itself does not refuse wrong changes of groups.
	lock netlock.Lock

	mu    sync.Mutex
	conn  *pfkey.Conn
	added *pfkey.Message // the last answer to ADD, for GetSA
	owner klips.SAID     // its SA
	held  udpport.Ports
}

var _ klips.Stack = (*Stack)(nil)

// Info returns the stack's name and abilities.
func (s *Stack) Info() klips.Info { return serial.Info(s) }

// Apply carries out changes one by one: KLIPS has no units. Meanwhile no other command
// makes changes. The methods for single changes do not take the lock.
func (s *Stack) Apply(ctx context.Context, changes ...klips.Change) (klips.Result, error) {
	if len(changes) == 0 {
		return klips.Result{}, nil
	}
	release, err := s.lock.Acquire(ctx)
	if err != nil {
		return klips.Result{}, &klips.OpError{Op: changes[0].Op(), Object: changes[0].Object(), Err: err}
	}
	defer release()
	return serial.Apply(ctx, s, changes)
}

// Hold makes other commands wait before they change the tables of this network
// namespace.
func (s *Stack) Hold(ctx context.Context) (release func(), err error) {
	if release, err = s.lock.Hold(ctx); err != nil {
		return nil, &klips.OpError{Op: "hold", Err: err}
	}
	return release, nil
}

// Snapshot reads the tables one after the other.
func (s *Stack) Snapshot(ctx context.Context, w klips.Want) (*klips.Snapshot, error) {
	return serial.Snapshot(ctx, s, w)
}

// New returns the stack of a machine.
func New(m Machine) *Stack {
	s := &Stack{machine: m, timeout: callTimeout}
	s.algorithms = sync.OnceValues(s.supported)
	s.Asker = func(ctx context.Context, op, object string, m *pfkey.Message) error {
		_, err := s.call(ctx, op, object, m)
		return err
	}
	return s
}

// Name returns "klips".
func (s *Stack) Name() string { return "klips" }

// Has reports that the module has none of the abilities added later.
func (s *Stack) Has(c klips.Capability) bool {
	switch c {
	case klips.CapDebug, klips.CapPass, klips.CapReject, klips.CapTransportDevice, klips.CapEvents:
		return true
	}
	return false
}

// Close closes the PF_KEY socket, and releases the UDP ports.
func (s *Stack) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(s.lock.Close(), s.held.Close())
	if s.conn == nil {
		return err
	}
	err = errors.Join(err, s.conn.Close())
	s.conn = nil
	return err
}

// pfkey returns the open PF_KEY socket.
func (s *Stack) pfkey() (*pfkey.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		c, err := s.machine.Dial()
		if err != nil {
			return nil, unavailable(err)
		}
		s.conn = c
	}
	return s.conn, nil
}

// unavailable returns the error for a PF_KEY socket that cannot be opened.
func unavailable(err error) error {
	u := &klips.UnavailableError{Err: err}
	var errno syscall.Errno
	var peer *pfkey.PeerError
	if errors.As(err, &peer) {
		u.Fault, u.Why = klips.FaultSocketUser, err.Error()
		return u
	}
	if !errors.As(err, &errno) {
		u.Why = "no PF_KEY socket can be opened: " + err.Error()
		return u
	}
	switch errno {
	case syscall.EAFNOSUPPORT:
		u.Fault = klips.FaultNoPFKey
	case syscall.EPERM, syscall.EACCES:
		u.Fault = klips.FaultPFKeyRights
	case syscall.EPROTONOSUPPORT, syscall.ESOCKTNOSUPPORT:
		u.Fault = klips.FaultPFKeyVersion
	case syscall.ENOMEM, syscall.ENOBUFS:
		u.Fault = klips.FaultPFKeyMemory
	case syscall.EMFILE, syscall.ENFILE:
		u.Fault = klips.FaultFiles
	case syscall.ENOENT, syscall.ECONNREFUSED:
		u.Fault = klips.FaultSocketSilent
		var op *net.OpError
		if errors.As(err, &op) && op.Addr != nil {
			u.Why = "nobody answers at " + op.Addr.String()
		}
	default:
		u.Why = "no PF_KEY socket can be opened: " + errno.Error()
	}
	return u
}

// call sends a request; op and object are for its error.
func (s *Stack) call(ctx context.Context, op, object string, m *pfkey.Message) (*pfkey.Message, error) {
	c, err := s.pfkey()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.added = nil // it may be another SA after this request
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r, err := c.Call(ctx, m)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("KLIPS does not answer: %w", err)
		}
		return nil, &klips.OpError{Op: op, Object: object, Err: err}
	}
	return r, nil
}
