package control

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/klips-go/ipsec/klips"
)

// appendRecord appends a record of a listing, a pointer, as JSON, with a newline. For SAs
// and eroutes, of which there can be a million, it allocates nothing that depends on
// their number: what a listing leaves to the garbage collector counts against the memory
// of the daemon.
func appendRecord(b []byte, r any) ([]byte, error) {
	switch r := r.(type) {
	case *klips.SA:
		return append(appendSA(b, r), '\n'), nil
	case *klips.Eroute:
		return append(appendEroute(b, r), '\n'), nil
	}
	text, err := json.Marshal(r)
	return append(append(b, text...), '\n'), err
}

// appendSA appends what json.Marshal returns for an SA.
func appendSA(b []byte, sa *klips.SA) []byte {
	o := object{b: append(b, '{')}
	o.said("said", sa.ID)
	o.open("transform")
	o.word("auth", sa.Transform.Auth.String(), sa.Transform.Auth == 0)
	o.word("enc", sa.Transform.Enc.String(), sa.Transform.Enc == 0)
	o.word("comp", sa.Transform.Comp.String(), sa.Transform.Comp == 0)
	o.close()
	o.word("dir", sa.Dir.String(), false)
	o.word("state", sa.State.String(), false)
	o.addr("src", sa.Src)
	if sa.Policy != nil {
		o.open("policy")
		o.selector(sa.Policy)
		o.close()
	}
	if len(sa.IV) > 0 {
		o.name("iv")
		o.b = append(base64.StdEncoding.AppendEncode(append(o.b, '"'), sa.IV), '"')
	}
	o.some("window", uint64(sa.Window))
	o.flag("esn", sa.ESN)
	o.flag("align8", sa.Align8)
	o.flag("copy_tos", sa.CopyTOS)
	o.word("offload", sa.Offload, sa.Offload == "")
	o.some("replay_errs", uint64(sa.ReplayErrs))
	o.some("seq", sa.Seq)
	o.some("bitmap", sa.Bitmap)
	o.some("max_seq_diff", uint64(sa.MaxSeqDiff))
	o.some("flags", uint64(sa.Flags))
	o.int("path_mtu", int64(sa.PathMTU), sa.PathMTU == 0)
	o.some("below_mark", uint64(sa.BelowMark))
	o.some("seq_waits", uint64(sa.SeqWaits))
	if len(sa.Drops) > 0 {
		o.open("drops")
		for _, reason := range slices.Sorted(maps.Keys(sa.Drops)) {
			o.uint(reason, sa.Drops[reason])
		}
		o.close()
	}
	o.int("auth_key_bits", int64(sa.AuthKeyBits), sa.AuthKeyBits == 0)
	o.some("auth_errs", uint64(sa.AuthErrs))
	o.int("enc_key_bits", int64(sa.EncKeyBits), sa.EncKeyBits == 0)
	o.some("size_errs", uint64(sa.SizeErrs))
	o.some("pad_errs", uint64(sa.PadErrs))
	o.saids("same_key", sa.SameKey)
	o.open("life")
	o.counter("allocations", &sa.Life.Allocations)
	o.counter("bytes", &sa.Life.Bytes)
	o.counter("addtime", &sa.Life.AddTime)
	o.counter("usetime", &sa.Life.UseTime)
	o.counter("packets", &sa.Life.Packets)
	o.close()
	o.flag("used", sa.Used)
	o.int("idle", int64(sa.Idle), sa.Idle == 0)
	o.some("uncompressed", sa.Uncompressed)
	o.some("compressed", sa.Compressed)
	o.open("natt")
	o.word("type", sa.NATT.Type.String(), sa.NATT.Type == 0)
	o.some("sport", uint64(sa.NATT.SPort))
	o.some("dport", uint64(sa.NATT.DPort))
	if sa.NATT.OA.IsValid() {
		o.addr("oa", sa.NATT.OA)
	}
	o.close()
	if sa.HeardAddr != (netip.Addr{}) {
		o.addr("heard_addr", sa.HeardAddr)
	}
	o.some("heard_port", uint64(sa.HeardPort))
	o.int("refcount", int64(sa.RefCount), false)
	o.uint("ref", uint64(sa.Ref))
	o.uint("refhim", uint64(sa.RefHim))
	o.some("outif", uint64(sa.OutIf))
	o.flag("add_again", sa.AddAgain)
	o.flag("group_again", sa.GroupAgain)
	o.saids("next", sa.Next)
	o.close()
	return o.b
}

// appendEroute appends what json.Marshal returns for an eroute.
func appendEroute(b []byte, e *klips.Eroute) []byte {
	o := object{b: append(b, '{')}
	o.selector(&e.Selector)
	o.said("said", e.ID)
	o.saids("also", e.Also)
	o.uint("packets", e.Packets)
	o.int("pid", int64(e.PID), e.PID == 0)
	o.flag("add_again", e.AddAgain)
	o.close()
	return o.b
}

// An object is a JSON object that is being written.
type object struct {
	b    []byte
	more bool // it has a field already
}

// open begins a field that is an object, or ends with close.
func (o *object) open(name string) {
	o.name(name)
	o.b, o.more = append(o.b, '{'), false
}

func (o *object) close() { o.b, o.more = append(o.b, '}'), true }

func (o *object) name(name string) {
	if o.more {
		o.b = append(o.b, ',')
	}
	o.more = true
	o.b = append(o.string(name), ':')
}

// string returns b with a string at its end.
func (o *object) string(s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			text, _ := json.Marshal(s) // strings have no errors
			return append(o.b, text...)
		}
	}
	return append(append(append(o.b, '"'), s...), '"')
}

func (o *object) word(name, s string, omit bool) {
	if !omit {
		o.name(name)
		o.b = o.string(s)
	}
}

func (o *object) addr(name string, a netip.Addr) {
	if a.Zone() != "" {
		o.word(name, a.String(), false)
		return
	}
	o.name(name)
	b, _ := a.AppendText(append(o.b, '"')) // it returns no error
	o.b = append(b, '"')
}

func (o *object) prefix(name string, p netip.Prefix) {
	o.name(name)
	b, _ := p.AppendText(append(o.b, '"')) // it returns no error
	o.b = append(b, '"')
}

func (o *object) said(name string, id klips.SAID) {
	o.name(name)
	o.element(id)
}

// element adds a SAID that is not a field.
func (o *object) element(id klips.SAID) {
	if !id.Dst.IsValid() { // its text needs escapes
		o.b = o.string(id.String())
		return
	}
	b, _ := id.AppendText(append(o.b, '"')) // it returns no error
	o.b = append(b, '"')
}

func (o *object) saids(name string, ids []klips.SAID) {
	if len(ids) == 0 {
		return
	}
	o.name(name)
	o.b = append(o.b, '[')
	for i, id := range ids {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.element(id)
	}
	o.b = append(o.b, ']')
}

func (o *object) uint(name string, n uint64) {
	o.name(name)
	o.b = strconv.AppendUint(o.b, n, 10)
}

// some is uint, and nothing for zero.
func (o *object) some(name string, n uint64) {
	if n != 0 {
		o.uint(name, n)
	}
}

func (o *object) int(name string, n int64, omit bool) {
	if !omit {
		o.name(name)
		o.b = strconv.AppendInt(o.b, n, 10)
	}
}

func (o *object) flag(name string, v bool) {
	if v {
		o.name(name)
		o.b = append(o.b, "true"...)
	}
}

func (o *object) counter(name string, c *klips.Counter) {
	o.open(name)
	o.uint("count", c.Count)
	o.some("soft", c.Soft)
	o.some("hard", c.Hard)
	o.some("below_zero", c.Below)
	o.close()
}

func (o *object) selector(s *klips.Selector) {
	o.prefix("src", s.Src)
	o.prefix("dst", s.Dst)
	o.some("proto", uint64(s.Proto))
	o.some("sport", uint64(s.SrcPort))
	o.some("dport", uint64(s.DstPort))
}
