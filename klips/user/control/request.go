package control

import (
	"encoding/json"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// request makes a private request. The daemon refuses values that the wire cannot
// carry, such as an SA without a destination.
func request(t pfkey.Type, extensions ...pfkey.Extension) *pfkey.Message {
	return &pfkey.Message{Header: pfkey.Header{Type: t}, Private: extensions}
}

// AddSA is [pfkey.AddSA] with the parameters of the embedded stack: a window of more
// than 64 packets, extended sequence numbers, sequence numbers to continue from, padded
// AH headers, a copied TOS, limits in packets, the address behind a NAT, and the
// permission to reuse a key.
func AddSA(spec *klips.SASpec) *pfkey.Message {
	m := pfkey.AddSA(spec)
	if spec.NATT.OA.IsValid() {
		m.NATTOA = &pfkey.Address{Addr: spec.NATT.OA}
	}
	add := func(there bool, e pfkey.Extension) {
		if there {
			m.Private = append(m.Private, e)
		}
	}
	add(spec.Window > pfkey.MaxWindow, numberExt(ExtWindow, spec.Window))
	add(spec.Soft.Packets != 0 || spec.Hard.Packets != 0, longExt(ExtPackets, spec.Soft.Packets, spec.Hard.Packets))
	add(spec.ESN, numberExt(ExtESN, 1))
	add(spec.ReuseKey, numberExt(ExtReuse, 1))
	if spec.Seq != nil {
		add(true, longExt(ExtSeq, *spec.Seq))
	}
	if spec.ReplaySeq != nil {
		add(true, longExt(ExtReplay, *spec.ReplaySeq))
	}
	add(spec.Align8, numberExt(ExtAlign8, 1))
	add(spec.CopyTOS, numberExt(ExtCopyTOS, 1))
	return m
}

// SetEroute is [pfkey.AddFlow] with the further SAs of the eroute.
func SetEroute(c klips.SetEroute) *pfkey.Message {
	m := pfkey.AddFlow(c.Eroute, c.ErouteOp())
	if len(c.Also) > 0 {
		m.Private = []pfkey.Extension{saidsExt(c.Also...)}
	}
	return m
}

// Group requests a group of two to four SAs, all or nothing; the inner transform comes
// first.
func Group(ids []klips.SAID) *pfkey.Message { return request(TypeGroup, saidsExt(ids...)) }

// Attach requests to bind a virtual device to a physical one, for packets past the kernel's
// IP output if direct.
func Attach(virtual, physical string, direct bool) *pfkey.Message {
	m := request(TypeAttach, deviceExt(ExtVirtual, virtual), deviceExt(ExtPhysical, physical))
	if direct {
		m.Private = append(m.Private, numberExt(ExtDirect, 1))
	}
	return m
}

// Detach requests to unbind a virtual device.
func Detach(virtual string) *pfkey.Message {
	return request(TypeDetach, deviceExt(ExtVirtual, virtual))
}

// DetachAll requests to unbind all virtual devices.
func DetachAll() *pfkey.Message { return request(TypeDetachAll) }

// ListTable requests a table; see [List].
func ListTable(t Table) *pfkey.Message { return request(TypeList, numberExt(ExtTable, uint32(t))) }

// ListPart requests the part of a long table that begins at a place: TableSAs or
// TableEroutes. Without a place the part is the first. See [ListingPart].
func ListPart(t Table, place []byte) *pfkey.Message {
	return request(TypeList, numberExt(ExtTable, uint32(t)), placeExt(place))
}

// ListSA requests one SA of TableSAs; see [List].
func ListSA(id klips.SAID) *pfkey.Message {
	return request(TypeList, saidsExt(id), numberExt(ExtTable, uint32(TableSAs)))
}

// ListGroup requests the SAs of an SA's group; see [List].
func ListGroup(id klips.SAID) *pfkey.Message {
	return request(TypeList, saidsExt(id), numberExt(ExtTable, uint32(TableGroup)))
}

// Keys requests the keys of one SA.
func Keys(id klips.SAID) *pfkey.Message { return request(TypeKeys, saidsExt(id)) }

// Stop asks the daemon to remove its devices and to stop.
func Stop() *pfkey.Message { return request(TypeStop) }

// Leave asks the daemon to stop and to leave its devices to the next one.
func Leave() *pfkey.Message { return request(TypeLeave) }

// HandOver requests the daemon's whole state, and that it stops: see
// [pfkey.Conn.CallForFiles]. netns is the inode number of the client's network
// namespace; 0: it is not known.
func HandOver(netns uint64) (*pfkey.Message, error) { return withValue(TypeHandOver, netns) }

// Begin and End enclose requests; after one is refused, the rest is not carried out.
// Like Hold and Release they have no sequence number: listeners see the numbers of
// other requests, without gaps for these.
func Begin() *pfkey.Message { return unnumbered(TypeBegin) }

// End is described at [Begin].
func End() *pfkey.Message { return unnumbered(TypeEnd) }

// Hold makes the changes of other clients wait until [Release].
func Hold() *pfkey.Message { return unnumbered(TypeHold) }

// Release ends a [Hold].
func Release() *pfkey.Message { return unnumbered(TypeRelease) }

func unnumbered(t pfkey.Type) *pfkey.Message {
	m := request(t)
	m.Unnumbered = true
	return m
}

// Status requests the daemon's status.
func Status() *pfkey.Message { return request(TypeStatus) }

// Set requests to set knobs, all or none.
func Set(knobs map[string]int) (*pfkey.Message, error) { return withValue(TypeSet, knobs) }

// Guard requests to guard a flow.
func Guard(g klips.Guard) (*pfkey.Message, error) { return withValue(TypeGuard, g) }

// Unguard requests to end the guard of a flow.
func Unguard(s klips.Selector) (*pfkey.Message, error) { return withValue(TypeUnguard, s) }

// Trace asks what the stack would do with a packet.
func Trace(f klips.Flow) (*pfkey.Message, error) { return withValue(TypeTrace, f) }

// withValue makes a request with a JSON value.
func withValue(t pfkey.Type, v any) (*pfkey.Message, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return request(t, dataExt(b)), nil
}
