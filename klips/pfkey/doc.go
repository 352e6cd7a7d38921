// Package pfkey implements PF_KEYv2 (RFC 2367) with KLIPS' message types, extensions
// and checks.
//
// A [Message] is a header and at most one extension of each kind. [Parse] reads one
// from the wire, [Message.Marshal] writes it; the bytes are those of the classic KLIPS
// tools. Functions with the names of requests build them ([AddSA], [GroupPair],
// [AddFlow], …). Methods of Message read them back into types of package klips
// ([Message.SASpec], [Message.Group], …). [Check] returns the errno with which a KLIPS
// kernel refuses a malformed request. A [Conn] sends requests and waits for answers.
//
// Types from [FirstPrivate] on belong to a private protocol; messages carry its
// extensions as bytes ([Message.Private]).
//
// On the wire, numbers are in host byte order, except for SPIs, IP addresses and the
// ports inside socket addresses, which are big-endian. Lengths count 8-byte words. In
// the types of this package every number is in host order and an address is a
// netip.Addr.
package pfkey
