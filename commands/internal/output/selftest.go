package output

// The tests of one algorithm, or of another part of the program.
type SelfTest struct {
	// The word of the algorithm, or: replay window, extended sequence numbers, derived keys.
	Of string `json:"of"`
	// Whether all its tests have the known results.
	Passed bool `json:"passed"`
	// The documents with the known results, with their cases, and the programs that have
	// made others.
	Sources []string `json:"sources"`
	// The tests that have other results.
	Failures []SelfTestFailure `json:"failures,omitempty"`
}

// A test with another result than the known one. The keys and packets of tests are known to
// everyone.
type SelfTestFailure struct {
	// The document or program that the known result is from.
	Source string `json:"source"`
	// The difference, in words.
	Difference string `json:"difference"`
}
