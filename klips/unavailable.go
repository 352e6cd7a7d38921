package klips

// An UnavailableError says that a stack cannot be used at all. Its text is
// complete: what is missing, and what to do.
type UnavailableError struct {
	Why  string // the bare reason, as in "the kernel has no KLIPS"
	Help string // what to do, as in "load the module ipsec"
	Err  error  // the cause; errors.Is works with it
}

func (e *UnavailableError) Error() string {
	if e.Help == "" {
		return e.Why
	}
	return e.Why + "; " + e.Help
}

func (e *UnavailableError) Unwrap() error { return e.Err }
