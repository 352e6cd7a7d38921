package klips

// An OpError is an operation that a stack refused. Unwrap gives the cause,
// most often a syscall.Errno, so errors.Is(err, syscall.EEXIST) works. Texts
// for people are composed by the commands from its fields.
type OpError struct {
	Op     string // as in "add SA", "group", "attach"
	Object string // the SAID, eroute or device at fault, as text; may be empty
	Err    error
	Detail string // the stack's own words, such as a netlink extended ack; may be empty
	// Fault is what is wrong with the request, where the stack can tell.
	Fault Fault
	// Other is the SA that is in the way of the object, where the fault is about two;
	// else the zero SAID.
	Other SAID
	// Reason is why it was refused, where the stack knows more than Err and Fault tell;
	// may be empty.
	Reason string
	// Left says what was changed before it was refused and could not be taken back;
	// empty where nothing was changed, as it should be.
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

// An UnavailableError is that a stack cannot be used at all.
type UnavailableError struct {
	Fault Fault  // FaultNone: Why has all that is known
	Why   string // what is wrong, where more is known than Fault.String returns; else empty
	Err   error  // the cause; errors.Is works with it
}

func (e *UnavailableError) Error() string {
	if e.Why == "" {
		return e.Fault.String()
	}
	return e.Why
}

func (e *UnavailableError) Unwrap() error { return e.Err }
