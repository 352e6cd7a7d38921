// Package klips has the types of KLIPS' manual keying: security associations named by
// SAIDs, groups of SAs, extended routes (eroutes) that send packets into a group, and
// the virtual devices ipsecN.
//
// The types are plain values that every command and every stack uses. A [Stack] carries
// out changes: the embedded one (package user), the mainline kernel (package xfrm), or
// the classic KLIPS module (package classic). This package does no I/O. Package syntax
// parses command lines into these values.
//
// Numbers are those of the PF_KEY interface of KLIPS (RFC 2367 and its private
// extensions); they are in host byte order unless a comment says otherwise.
package klips
