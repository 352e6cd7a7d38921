package output

// The result of one check.
type Verification struct {
	// What was checked.
	Check string `json:"check"`
	// ok, warning, failed, or unknown: it could not be checked, mostly for want of rights.
	State string `json:"state"`
	// What was found, in words.
	Result string `json:"result"`
	// How to mend it.
	Mend string `json:"mend,omitempty"`
}
