package nlxfrm

import (
	"fmt"
	"io"
	"syscall"

	"github.com/mdlayher/netlink"
)

// A Request is one encoded change, for [Conn.Batch]. It contains the state's keys:
// Clear overwrites them. A request for an object that cannot be encoded fails when it
// is sent.
type Request struct {
	op     string
	object fmt.Stringer // for errors; nil for dumps
	typ    netlink.HeaderType
	flags  netlink.HeaderFlags
	data   []byte
	err    *Error // why it cannot be encoded

	cleared bool
}

// Format writes the operation and the object, without keys, for every verb.
func (r Request) Format(f fmt.State, _ rune) { io.WriteString(f, r.op+" "+r.name()) }

// name is the object's name.
func (r *Request) name() string {
	if r.object == nil {
		return ""
	}
	return r.object.String()
}

// Clear overwrites the request with zeros; it cannot be sent any more.
func (r *Request) Clear() {
	clear(r.data)
	*r = Request{op: r.op, object: r.object, cleared: true}
}

// refused returns why the request cannot be sent, nil if it can.
func (r *Request) refused() error {
	switch {
	case r.cleared:
		return &Error{Op: r.op, Object: r.name(), Err: syscall.EINVAL, Message: "the request was cleared"}
	case r.err != nil:
		return r.err
	}
	return nil
}

func request(op string, object fmt.Stringer, typ netlink.HeaderType, data []byte, err error) Request {
	r := Request{op: op, object: object, typ: typ, flags: netlink.Request | netlink.Acknowledge, data: data}
	if err != nil {
		r.err = &Error{Op: op, Object: r.name(), Err: syscall.EINVAL, Message: err.Error()}
	}
	return r
}

// AddState adds a state. EEXIST: a state has its ID and mark. EPROTONOSUPPORT, ENOSYS
// or ENOENT: the kernel lacks the protocol or an algorithm.
func AddState(s *State) Request {
	b, err := s.encode()
	return request("add state", s.ID, msgNewSA, b, err)
}

// UpdateState changes a state's selector, encapsulation, limits and some of its flags.
// The kernel silently ignores its keys, mode, window and numbers. ESRCH: it does not
// exist.
func UpdateState(s *State) Request {
	b, err := s.encode()
	return request("update state", s.ID, msgUpdSA, b, err)
}

// DeleteState removes a state. ESRCH: it does not exist.
func DeleteState(id ID, m Mark) Request {
	b, err := encodeStateID(id, m)
	return request("delete state", id, msgDelSA, b, err)
}

// UpdateAE sets the numbers, window and counters of an existing state; nil ones stay.
// ESRCH: it does not exist. EINVAL: there is nothing to set, or the window has another
// size.
func UpdateAE(a *AE) Request {
	b, err := a.encode()
	r := request("update replay state", a.ID, msgNewAE, b, err)
	r.flags |= netlink.Replace // the kernel requires it
	return r
}

// AddPolicy adds a policy. EEXIST: its key exists.
func AddPolicy(p *Policy) Request {
	b, err := p.encode()
	return request("add policy", p.Key(), msgNewPolicy, b, err)
}

// UpdatePolicy replaces the policy with the same key, or adds a new one. The kernel
// does it in one step.
func UpdatePolicy(p *Policy) Request {
	b, err := p.encode()
	return request("update policy", p.Key(), msgUpdPolicy, b, err)
}

// DeletePolicy removes a policy. ENOENT: it does not exist.
func DeletePolicy(k PolicyKey) Request {
	b, err := k.encode()
	return request("delete policy", k, msgDelPolicy, b, err)
}

func getState(id ID, m Mark) Request {
	b, err := encodeStateID(id, m)
	r := request("get state", id, msgGetSA, b, err)
	r.flags = netlink.Request
	return r
}

func getAE(id ID, m Mark) Request {
	b, err := (&AE{ID: id, Mark: m}).encode()
	r := request("get replay state", id, msgGetAE, b, err)
	r.flags = netlink.Request
	return r
}

func getPolicy(k PolicyKey) Request {
	b, err := k.encode()
	r := request("get policy", k, msgGetPolicy, b, err)
	r.flags = netlink.Request
	return r
}

func dumpStates(proto uint8) Request {
	var b []byte
	if proto != 0 {
		var p []byte
		b, p = appendAttr(nil, attrProto, 1)
		p[0] = proto
	}
	r := request("list states", nil, msgGetSA, b, nil)
	r.flags = netlink.Request | netlink.Dump
	return r
}

func dumpPolicies() Request {
	r := request("list policies", nil, msgGetPolicy, nil, nil)
	r.flags = netlink.Request | netlink.Dump
	return r
}

func encodeStateID(id ID, m Mark) ([]byte, error) {
	b := make([]byte, userSAIDLen, userSAIDLen+16)
	if err := id.putUser(b); err != nil {
		return nil, err
	}
	return m.append(b), nil
}
