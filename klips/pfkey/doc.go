// Package pfkey speaks PF_KEYv2 (RFC 2367) as KLIPS does: its message types,
// its private extensions and its checks.
//
// A [Message] is a header and at most one extension of each kind. [Parse] reads
// one from the wire, [Message.Marshal] writes it; the bytes are those of the
// classic KLIPS tools. Requests are built by functions named after what they
// ask for ([AddSA], [GroupPair], [AddFlow], …) and read back into the types of
// package klips by methods of Message ([Message.SASpec], [Message.Group], …).
// [Check] tells what errno a KLIPS kernel answers to a malformed request. A
// [Conn] sends requests and waits for answers.
//
// Types from [FirstPrivate] on are left to a private protocol: messages carry its
// extensions as bytes ([Message.Private]).
//
// On the wire, numbers are in host byte order, but SPIs, IP addresses and the
// ports inside socket addresses, which are big-endian; lengths count 8-byte
// words. In the types of this package every number is in host order and an
// address is a netip.Addr.
package pfkey
