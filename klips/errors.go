package klips

// An OpError is an operation that a stack refused. Unwrap returns the cause, most often
// a syscall.Errno, so errors.Is(err, syscall.EEXIST) works. The commands compose texts
// for users from its fields.
type OpError struct {
	Op     string // as in "add SA", "group", "attach"
	Object string // the SAID, eroute or device at fault, as text; may be empty
	Err    error
	Detail string // the stack's own text, such as a netlink extended ack; may be empty
	// Fault is what is wrong with the request, if the stack knows.
	Fault Fault
	// Other is the other SA, if the fault is about two; else the zero SAID.
	Other SAID
	// Reason is the reason for the refusal, if it is more than Err and Fault express;
	// may be empty.
	Reason string
	// Left names changes that were made before the refusal and could not be undone;
	// normally empty.
	Left string
}

func (e *OpError) Error() string {
	s := e.Op
	if e.Object != "" {
		s += " " + e.Object
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	switch {
	case e.Reason != "":
		s += ": " + e.Reason
	case e.Fault != FaultNone:
		s += ": " + e.Fault.String()
	}
	if e.Left != "" {
		s += "; " + e.Left
	}
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

func (e *OpError) Unwrap() error { return e.Err }

// An UnavailableError means that a stack cannot be used at all.
type UnavailableError struct {
	Fault Fault  // FaultNone: Why is complete
	Why   string // what is wrong, if that is more than Fault.String returns; else empty
	Err   error  // the cause; errors.Is works with it
}

func (e *UnavailableError) Error() string {
	if e.Why == "" {
		return e.Fault.String()
	}
	return e.Why
}

func (e *UnavailableError) Unwrap() error { return e.Err }
