// Package nlxfrm implements the netlink family XFRM, which manages Linux' IPsec states
// (security associations) and policies. It has the objects of <linux/xfrm.h> as Go
// types, their encoding and decoding, and the requests. It adds no conventions of its
// own.
//
// A [Conn] is a socket. It has a method for each request, and [Conn.Batch] for
// thousands of them. An [Error] has the kernel's errno and extended ack.
//
// On the wire, SPIs, ports and addresses are big-endian. All other numbers are in the
// byte order of the machine, including the words of replay bitmaps and the families. In
// the types of this package every number is in host order, an address is a netip.Addr;
// lengths of keys, truncations and windows are in the units that each field names.
//
// In the types, zero means the same as a missing attribute: no mark, no interface ID,
// no limit. The kernel also uses all ones for no limit: they are read as zero, and
// written for zero if the kernel requires it.
//
// Keys are in fields of type [Key], which neither package fmt nor JSON prints.
// ClearKeys overwrites them. Buffers of messages are cleared after use, except for
// those inside package netlink and the kernel. Do not set NLDEBUG, which makes package
// netlink print messages.
package nlxfrm
