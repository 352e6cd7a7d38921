// Package classictest helps to test what drives KLIPS: a machine that has KLIPS, made of
// a unix socket and some files (see [Kernel]).
package classictest
