// Package confine takes from the embedded stack's daemon every right that it does not
// need. An attacker who finds a fault in its packet path then gains little.
//
// It happens in two steps. [Exec] gives up the user and all capabilities except
// CAP_NET_ADMIN and CAP_NET_RAW, and starts the program again with an empty environment
// and only the descriptors that it is given. So the new program never had more. [Enter]
// is called there: it locks the memory, which has keys, and restricts files (Landlock)
// and system calls (seccomp).
//
// A kernel or a container may refuse some of it. The daemon works all the same;
// [Read] reports what holds, and what was refused.
package confine
