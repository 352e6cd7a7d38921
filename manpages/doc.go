// Package manpages holds the manual pages, in mdoc(7).
//
// A page is written as prose in NAME.SECTION.in; the generator fills in what
// the program knows itself (options, synopses, algorithms) and the examples,
// which the tests of this package run. The results, NAME.SECTION, are
// committed. What the page ipsec_json(5) describes, [ReadJSON] reads.
package manpages

//go:generate go run ./gen
