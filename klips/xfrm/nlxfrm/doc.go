// Package nlxfrm speaks the netlink family XFRM, by which Linux is told of its
// IPsec states (security associations) and policies: the objects of
// <linux/xfrm.h> as Go types, their encoding and decoding, and the requests.
// It knows of no other program's conventions; what it sends is what it is given.
//
// A [Conn] is a socket. It has a method for each request, and [Conn.Batch] for
// thousands of them. An [Error] carries the kernel's errno and its own words.
//
// On the wire, SPIs, ports and addresses are big-endian, and all else is in the
// byte order of the machine, the words of replay bitmaps and the families too.
// In the types of this package every number is in host order, an address is a
// netip.Addr; lengths of keys, truncations and windows are in the units that
// each field names.
//
// In the types, zero means what a message means that does not speak of it: no
// mark, no interface ID, no limit. The kernel's other way to say "no limit",
// all ones, is read as zero and written for zero where the kernel wants it.
//
// Keys are in fields of type [Key], which do not show in any format of package
// fmt nor in JSON. ClearKeys overwrites them. The buffers in which messages
// were read or encoded are cleared when they are done with, except for those
// inside package netlink and the kernel, which are out of reach; do not set
// NLDEBUG, which makes package netlink print messages.
package nlxfrm
