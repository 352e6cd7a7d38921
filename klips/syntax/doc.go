// Package syntax is the grammar of KLIPS' command lines: how they write addresses,
// subnets, SAIDs, keys, numbers and the names of algorithms. It reads all forms that
// KLIPS' tools took, and its errors say in words what is wrong with a text.
//
// Values write themselves in one form, by their methods in package klips.
package syntax
