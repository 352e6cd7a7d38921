// Package klips is the domain of manual keying as KLIPS knows it: security
// associations named by SAIDs, groups of them, extended routes (eroutes) that
// send packets into a group, and the virtual devices ipsecN that carry them.
//
// The types here are plain values shared by every command and every stack. A
// [Stack] is what carries them out: the embedded one (package user), the
// mainline kernel, or the classic KLIPS module. Nothing here does I/O. Package
// syntax reads these values from the texts of command lines.
//
// Numbers are those of the PF_KEY interface of KLIPS (RFC 2367 and its private
// extensions); they are in host byte order unless a comment says otherwise.
package klips
