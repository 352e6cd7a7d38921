// Package klipstest helps to test stacks: a contract suite that every
// klips.Stack must pass, and a host made of memory for the embedded engine.
package klipstest
