package user

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/guard"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/control"
)

// Time limits for a daemon that does not answer: for a request, and for a listing or a
// part of one. A listing can have a million lines.
const (
	callTimeout = 20 * time.Second
	listTimeout = 2 * time.Minute
)

// A Client sends the commands' requests to a daemon. The daemon closes the connection
// of a client that has been idle for some minutes; the Client then connects again, but
// only to the same daemon. Its methods may be called from any goroutine.
type Client struct {
	path string

	units sync.Mutex // held while changes are sent

	mu   sync.Mutex
	conn *pfkey.Conn
}

var (
	_ klips.Stack        = (*Client)(nil)
	_ klips.Parter       = (*Client)(nil)
	_ klips.KeyReader    = (*Client)(nil)
	_ serial.GroupReader = (*Client)(nil)
	_ serial.KnobReader  = (*Client)(nil)
)

// Dial connects to the daemon whose socket is at path. It first checks that no other
// user can have put the socket there: see [OpenDir] for the rules for the directory,
// and [pfkey.Dial] for the owner of the socket. If no daemon listens, errors.Is finds
// fs.ErrNotExist or syscall.ECONNREFUSED; if this user may not connect,
// fs.ErrPermission. A *[RundirError] or *[pfkey.PeerError] means that keys would not be
// safe.
func Dial(path string) (*Client, error) {
	if err := checkSocket(path); err != nil {
		return nil, err
	}
	c, err := pfkey.Dial(path)
	if err != nil {
		return nil, err
	}
	return newClient(path, c), nil
}

func newClient(path string, conn *pfkey.Conn) *Client {
	return &Client{path: path, conn: conn}
}

// PeerPID returns the process id of the daemon, 0 if its PID namespace is hidden from
// this process.
func (c *Client) PeerPID() int { return c.current().PeerPID() }

// Close closes the connection.
func (c *Client) Close() error { return c.current().Close() }

func (c *Client) current() *pfkey.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn
}

// with calls f with the connection, and again with a new one if the daemon had
// closed it before anything could be sent.
func (c *Client) with(f func(*pfkey.Conn) error) error {
	conn := c.current()
	err := f(conn)
	if errors.Is(err, syscall.EPIPE) && c.redial(conn) == nil {
		err = f(c.current())
	}
	return err
}

// errOther means that another daemon listens now, which does not have the first one's
// SAs and eroutes.
var errOther = errors.New("another daemon listens")

// redial replaces a connection, unless another goroutine has done so.
func (c *Client) redial(old *pfkey.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != old {
		return nil
	}
	fresh, err := Dial(c.path)
	if err != nil {
		return err
	}
	if pid := old.PeerPID(); pid == 0 || fresh.conn.PeerPID() != pid {
		fresh.Close()
		return errOther
	}
	old.Close()
	c.conn = fresh.conn
	return nil
}

// call sends a request; op and object name it in the error.
func (c *Client) call(ctx context.Context, op, object string, m *pfkey.Message) (*pfkey.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var r *pfkey.Message
	err := c.with(func(conn *pfkey.Conn) (err error) {
		r, err = conn.Call(ctx, m)
		return err
	})
	if err == nil {
		return r, nil
	}
	return nil, answerError(op, object, r, err)
}

// answerError makes the error of an answer with an errno.
func answerError(op, object string, r *pfkey.Message, errno error) error {
	// The daemon names the member of a group at fault, or the SA that uses the key.
	var named []klips.SAID
	if r != nil {
		object = cmp.Or(control.ObjectOf(r), object)
		named, _ = control.SAIDsOf(r)
	}
	e := &klips.OpError{Op: op, Object: object, Err: errno}
	switch {
	case errors.Is(errno, syscall.EKEYREJECTED) && len(named) == 1:
		e.Fault, e.Other = klips.FaultKeyUsed, named[0]
	case errors.Is(errno, syscall.EKEYEXPIRED):
		e.Fault = klips.FaultNoNumbers
	default:
		return opError(op, object, errno)
	}
	return e
}

func opError(op, object string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the daemon does not answer: %w", err)
	}
	return &klips.OpError{Op: op, Object: object, Err: err}
}

func list[T any](ctx context.Context, c *Client, op, object string, m *pfkey.Message) ([]T, error) {
	var l []T
	err := c.withLimit(ctx, func(ctx context.Context, conn *pfkey.Conn) (err error) {
		l, err = control.List[T](ctx, conn, m)
		return err
	})
	if err != nil {
		return nil, opError(op, object, err)
	}
	return l, nil
}

// one reads a table that has one record.
func one[T any](ctx context.Context, c *Client, op, object string, m *pfkey.Message) (T, error) {
	l, err := list[T](ctx, c, op, object, m)
	if err == nil && len(l) != 1 {
		err = opError(op, object, fmt.Errorf("%d records from the daemon: %w", len(l), syscall.EPROTO))
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return l[0], nil
}

// Info returns the stack's name and abilities.
func (c *Client) Info() klips.Info { return serial.Info(c) }

// Snapshot reads the tables one after the other.
func (c *Client) Snapshot(ctx context.Context, w klips.Want) (*klips.Snapshot, error) {
	return serial.Snapshot(ctx, c, w)
}

// Name returns "user".
func (c *Client) Name() string { return "user" }

// Version returns the line of ipsec_version.
func (c *Client) Version(ctx context.Context) (string, error) {
	return one[string](ctx, c, "get version", "", control.ListTable(control.TableVersion))
}

// Has reports true for all abilities of the embedded stack: all except offload to
// devices.
func (c *Client) Has(cap klips.Capability) bool { return cap != klips.CapOffload }

// GetSA returns one SA.
func (c *Client) GetSA(ctx context.Context, id klips.SAID) (klips.SA, error) {
	return one[klips.SA](ctx, c, "get SA", id.String(), control.ListSA(id))
}

// ReadGroup returns the SAs of the group that an SA is in.
func (c *Client) ReadGroup(ctx context.Context, id klips.SAID) ([]klips.SA, error) {
	return list[klips.SA](ctx, c, "get SA", id.String(), control.ListGroup(id))
}

// SAs lists the SAs.
func (c *Client) SAs(ctx context.Context) ([]klips.SA, error) {
	return list[klips.SA](ctx, c, "list SAs", "", control.ListTable(control.TableSAs))
}

// Eroutes lists the eroutes.
func (c *Client) Eroutes(ctx context.Context) ([]klips.Eroute, error) {
	return list[klips.Eroute](ctx, c, "list eroutes", "", control.ListTable(control.TableEroutes))
}

// Devices lists the devices.
func (c *Client) Devices(ctx context.Context) ([]klips.Device, error) {
	return list[klips.Device](ctx, c, "list devices", "", control.ListTable(control.TableDevices))
}

// Debug returns the debug masks.
func (c *Client) Debug(ctx context.Context) (klips.Debug, error) {
	return one[klips.Debug](ctx, c, "get debug", "", control.ListTable(control.TableDebug))
}

// A Status is the status of a daemon.
type Status struct {
	PID     int            `json:"pid"`
	Version string         `json:"version"`
	Rundir  string         `json:"rundir"`
	Uptime  int64          `json:"uptime"` // seconds
	SAs     int            `json:"sas"`
	Eroutes int            `json:"eroutes"`
	Devices []klips.Device `json:"devices"`
	// Dropped counts broadcasts that were dropped because listeners did not read them.
	Dropped uint64 `json:"dropped,omitempty"`
	Holds   Holds  `json:"holds"`
	// Drops counts dropped packets that belong to no device.
	Drops drop.Counts `json:"drops,omitempty"`
	// LastDrops are the newest dropped packets, one for each reason.
	LastDrops []klips.Dropped `json:"last_drops,omitempty"`
	// Unprotected counts the clear packets of guarded flows that the packet filter has
	// dropped, and its ICMP errors; nil if it guards none and has dropped none.
	Unprotected *guard.Counters `json:"unprotected,omitempty"`
	Knobs       []klips.Knob    `json:"knobs"`
	Marks       Marks           `json:"marks"`
	// Rights are those of the daemon's process; nil if it does not report them.
	Rights *confine.Rights `json:"rights,omitempty"`
}

// Marks describes the marks of sequence numbers.
type Marks struct {
	Statedir string `json:"statedir,omitempty"` // directory; empty: marks are not kept
	Lost     string `json:"lost,omitempty"`     // why marks are not kept at present, as text
	Keys     int    `json:"keys,omitempty"`     // number of keys in the marks
	Behind   int    `json:"behind,omitempty"`   // number of SAs that have received packets since the last mark
}

// Holds counts the eroutes that hold packets, by %hold and traps, and the effects of
// their limits since the daemon started.
type Holds struct {
	Held    int    `json:"held"`    // eroutes that hold packets
	Max     int    `json:"max"`     // the maximum number of these
	Expired uint64 `json:"expired"` // dropped because no eroute replaced them in time
	Evicted uint64 `json:"evicted"` // dropped to make room for newer ones
}

// Knobs lists the knobs of the stack.
func (c *Client) Knobs(ctx context.Context) ([]klips.Knob, error) {
	s, err := c.Status(ctx)
	return s.Knobs, err
}

// Status requests the daemon's status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	m, err := c.call(ctx, "get status", "", control.Status())
	if err == nil {
		err = control.ValueOf(m, &s)
	}
	return s, err
}

// Drops counts dropped packets that belong to no device.
func (c *Client) Drops(ctx context.Context) (drop.Counts, error) {
	s, err := c.Status(ctx)
	return s.Drops, err
}

// LastDrops returns the newest dropped packet for each reason, newest first. A daemon of an
// earlier version returns none.
func (c *Client) LastDrops(ctx context.Context) ([]klips.Dropped, error) {
	s, err := c.Status(ctx)
	return s.LastDrops, err
}

// Leave asks the daemon to stop and to leave its devices. The devices drop packets that are
// routed into them until the next daemon takes them up. The daemon has ended when its lock
// is free.
func (c *Client) Leave(ctx context.Context) error {
	_, err := c.call(ctx, "stop", "", control.Leave())
	return err
}

// Stop asks the daemon to remove its devices and to stop. The daemon has ended when its
// lock is free.
func (c *Client) Stop(ctx context.Context) error {
	_, err := c.call(ctx, "stop", "", control.Stop())
	return err
}

// Events registers for SA types and returns the daemon's messages. Without types the
// daemon does not count the client as a listener, and closes the connection after some
// minutes.
func (c *Client) Events(ctx context.Context, w klips.EventWant) (iter.Seq2[klips.Event, error], error) {
	l, err := c.current().Events(ctx, w)
	if err != nil {
		return nil, opError("listen", "", err)
	}
	return l, nil
}
