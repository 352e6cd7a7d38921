// Package selftest lists the tests that the program can make of itself: known packets of
// each algorithm, which go through the same code as all packets.
package selftest

import (
	"fmt"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/internal/aescbc"
	"github.com/klips-go/ipsec/klips/user/internal/icv"
	"github.com/klips-go/ipsec/klips/user/ipcomp"
	"github.com/klips-go/ipsec/klips/user/replay"
)

// A Test compares one result with a known one.
type Test struct {
	// Of are the words of the algorithms that it tests, or what else it tests.
	Of []string
	// Source is the document with the known result, with its case, or the program that has
	// made it.
	Source string
	Check  func() error
}

// Names of what is not an algorithm.
const (
	Window = "replay window"
	ESN    = "extended sequence numbers"
)

// Tests returns all tests of the packet path.
func Tests() (l []Test) {
	add := func(source string, check func() error, of ...string) { l = append(l, Test{of, source, check}) }
	for _, v := range aescbc.Vectors() {
		add(v.Source, v.Check, alg.AES.String())
	}
	for _, v := range icv.Vectors() {
		add(v.Source, v.Check, v.Auth.String())
	}
	for _, v := range esp.Vectors() {
		of := []string{v.Transform.Enc.String()}
		if v.Transform.Auth != alg.AuthNone {
			of = append(of, v.Transform.Auth.String())
		}
		if v.ESN {
			of = append(of, ESN)
		}
		add("ESP of "+v.Source, v.Check, of...)
	}
	for _, v := range ah.Vectors() {
		of := []string{v.Auth.String()}
		if v.ESN {
			of = append(of, ESN)
		}
		add("AH of "+v.Source, v.Check, of...)
	}
	for _, v := range ipcomp.Vectors() {
		add(v.Source, v.Check, alg.Deflate.String())
	}
	for _, e := range replay.Examples() {
		add(e.Source, e.Check, Window)
	}
	add("RFC 4303 appendix A2.1", func() error {
		for _, e := range replay.Extensions() {
			if err := e.Check(); err != nil {
				return fmt.Errorf("%s: %w", e.Source, err)
			}
		}
		return nil
	}, ESN)
	return l
}
