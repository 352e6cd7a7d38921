package klips

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
