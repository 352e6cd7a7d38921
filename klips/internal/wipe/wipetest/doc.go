// Package wipetest looks for keys where a function that uses them must not leave them.
package wipetest
