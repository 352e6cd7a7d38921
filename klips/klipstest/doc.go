// Package klipstest helps to test stacks: a contract suite that every
// klips.Stack must pass, a host made of memory for the embedded engine, and a
// machine that has KLIPS (see [Kernel]).
package klipstest
