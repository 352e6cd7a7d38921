// Package syntax parses the texts of KLIPS' command lines: addresses, subnets, SAIDs,
// keys, numbers and names of algorithms. It accepts all forms that KLIPS' tools
// accepted. Its errors describe what is wrong with a text.
//
// Methods in package klips print values, each in one form.
package syntax
