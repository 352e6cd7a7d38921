// Package netns gives each network namespace a directory of its own.
package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Dir returns base in the network namespace of process 1, and netns-<inode> below it
// in any other.
func Dir(base string) string {
	own, err := Inode()
	if err != nil {
		return base
	}
	// Without the right to read process 1's namespace, assume that it is another one.
	if first, err := inode("/proc/1/ns/net"); err == nil && first == own {
		return base
	}
	return filepath.Join(base, fmt.Sprintf("netns-%d", own))
}

// Inode returns the inode number of this process's network namespace. Two processes in
// the same namespace get the same number.
func Inode() (uint64, error) { return inode("/proc/self/ns/net") }

// inode returns the inode number of a namespace file.
func inode(path string) (uint64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return fi.Sys().(*syscall.Stat_t).Ino, nil
}
