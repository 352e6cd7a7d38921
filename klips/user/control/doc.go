// Package control is the private protocol between the client of stack user and its
// daemon, for everything that KLIPS' messages cannot express. It is used only on the
// daemon's socket, where both ends are this program. A KLIPS kernel answers such
// messages with EINVAL.
//
// Its messages are PF_KEY messages of types from [pfkey.FirstPrivate] on, and its values
// are extensions of such types, also in KLIPS' own ADD and UPDATE.
//
//	request    extensions                        reply
//	GROUP      SAIDS (2 to 4)                    header; with an errno: [DATA (the SAID at fault)]
//	ATTACH     VIRTUAL PHYSICAL [DIRECT]         header
//	DETACH     VIRTUAL                           header
//	DETACHALL                                    header
//	LIST       TABLE, [SAIDS (1): only this SA]  TABLE DATA …, the last without DATA
//	LIST       TABLE (6: its group), SAIDS (1)   the same
//	LIST       TABLE (1, 2), PLACE: a part       the same, the last with PLACE if there is
//	                                             more
//	STOP, LEAVE                                  header, when the daemon is about to go
//	HANDOVER                                     header, with descriptors (SCM_RIGHTS)
//	STATUS                                       DATA (one JSON value)
//	TRACE      DATA (JSON: klips.Flow)           DATA (JSON: klips.Decision)
//	SET        DATA (JSON: names and values)     header
//	GUARD      DATA (JSON: klips.Guard)          header; EEXIST: guarded before
//	UNGUARD    DATA (JSON: klips.Selector)       header
//	BEGIN                                        header BUNDLES
//	END                                          header; between BEGIN and END, after an
//	                                             error, ECANCELED to all
//	HOLD, RELEASE                                header; between them the requests of
//	                                             others wait
//	KEYS       SAIDS (1)                         [KEY_AUTH] [KEY_ENCRYPT] [MARKED]
//	ADD        as KLIPS', [WINDOW PACKETS ESN        as KLIPS'; with the errno
//	           REUSE ALIGN8 COPY_TOS SEQ             EKEYREJECTED: [SAIDS (1): the SA
//	           REPLAY_SEQ]                           that has this key]
//	UPDATE     the same except SEQ and REPLAY_SEQ    the same
//	X_ADDFLOW  as KLIPS', [SAIDS (1 to 15: the       as KLIPS'
//	           further SAs of an eroute)]
//
//	#   extension  body after length and type
//	64  SAIDS      per SAID 24 bytes: u8 protocol, u8 IP version (4 or 6), u16 0,
//	               u32 SPI and 16 bytes address (IPv4: 4 bytes and zeros),
//	               both big-endian; before them u32 count
//	65  VIRTUAL    u16 length, device name, as ipsec0
//	66  PHYSICAL   u16 length, device name, as eth0
//	67  TABLE      u32, a Table
//	68  DATA       u32 length, JSON: in LIST one value a line, each a type of
//	               package klips
//	69  WINDOW     u32, replay window in packets, when it is above 64
//	70  PACKETS    u32 0, u64 soft limit, u64 hard limit in packets, 0 = none
//	72  ESN        u32, 1: sequence numbers of 64 bits
//	73  REUSE      u32, 1: another SA may send with this key
//	74  SEQ        u32 0, u64 sequence number that counts as the last one sent
//	75  REPLAY_SEQ u32 0, u64 sequence number that counts as the highest received
//	76  ALIGN8     u32, 1: AH headers over IPv4 are padded to 8 bytes
//	77  COPY_TOS   u32, 1: outer headers have the TOS of the packet inside
//	78  PLACE      u32 length, what the daemon has sent as the place after a part;
//	               nothing: the first part
//	80  BUNDLES    u32, 1: until END, the daemon accepts bundles
//	81  MARKED     u32, 1: marks of the sequence numbers are kept
//
// A bundle is several requests in one datagram, one after the other, each with its own
// header. Their answers come in the same order, also in bundles. Descriptors with a bundle
// belong to its first request. A daemon of an older version answers BEGIN without BUNDLES,
// and a client of an older version sends one request in a datagram.
//
// Functions with the names of requests build them ([Group], [Attach], [ListSA], …). The
// daemon checks a request with [Check] and reads it with functions whose names end in
// Of ([GroupOf], [DevicesOf], …). A message, and a bundle, is at most [pfkey.MaxMessage]
// bytes long, so that it fits a datagram of a unix socket.
//
// On the wire, numbers are in host byte order except where marked big-endian.
package control
