// Package klipstest helps to test stacks. It has a contract suite that every klips.Stack
// must pass, and a host in memory for the embedded engine.
package klipstest
