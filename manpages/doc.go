// Package manpages holds the manual pages, in mdoc(7).
//
// The text of a page is in NAME.SECTION.in. The generator inserts what the program
// knows (options, synopses, algorithms) and the examples, which the tests of this
// package run. The results, NAME.SECTION, are committed. [ReadJSON] reads the JSON that
// the page ipsec_json(5) describes.
package manpages

//go:generate go run ./gen
