// Package classictest has a double of a machine with KLIPS, made of a unix socket and
// some files (see [Kernel]).
package classictest
