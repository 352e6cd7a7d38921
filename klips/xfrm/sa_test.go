package xfrm

import (
	"net/netip"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// Flags of a tunnel's state: without FlagNoECN the kernel copies congestion marks, also
// those of headers that it removes.
func TestTOSFlags(t *testing.T) {
	group := netip.MustParseAddr("224.0.0.5")
	const noECN, noDSCP = nlxfrm.FlagNoECN, nlxfrm.ExtraDontEncapDSCP
	for _, tt := range []struct {
		name           string
		src, dst       netip.Addr
		tunnel, copied bool
		flags          uint8
		extra          uint32
	}{
		{"out", here, there, true, false, noECN, noDSCP},
		{"out, copied", here, there, true, true, 0, 0},
		{"in", there, here, true, false, 0, 0},
		{"in, copied", there, here, true, true, 0, 0},
		{"both", netip.IPv4Unspecified(), group, true, false, 0, noDSCP},
		{"transport mode", here, there, false, false, 0, 0},
	} {
		tb := newTables()
		tb.local = map[netip.Addr]int{here: 2}
		esp, tun := klips.SAID{Dst: tt.dst, SPI: 0x101, Proto: klips.ProtoESP}, klips.SAID{Dst: tt.dst, SPI: 0x100, Proto: klips.ProtoTun}
		specs := []*klips.SASpec{{ID: esp, Src: tt.src, Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: make([]byte, 20)}}
		if tt.tunnel {
			specs = append(specs, &klips.SASpec{ID: tun, Src: tt.src, CopyTOS: tt.copied})
		}
		for _, spec := range specs {
			s, err := newSA(spec, time.Unix(1, 0))
			if err == nil {
				err = tb.addSA(s)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if tt.tunnel {
			if err := tb.group([]klips.SAID{tun, esp}); err != nil {
				t.Fatal(err)
			}
		}
		m := member{sa: tb.sas[esp], tun: tb.sas[tun]}
		st := m.wanted(1, true, nil)
		if flags, extra := st.Flags&noECN, st.ExtraFlags&noDSCP; flags != tt.flags || extra != tt.extra {
			t.Errorf("%s: flags %#x and %#x, want %#x and %#x", tt.name, flags, extra, tt.flags, tt.extra)
		}
		if tt.tunnel {
			s, _, ok := readRecord(tb.sas[tun].record(users{}, false, 0))
			if !ok || s.copyTOS != tt.copied || s.dir != tb.sas[tun].dir {
				t.Errorf("%s: the record has copyTOS %v and direction %v", tt.name, s.copyTOS, s.dir)
			}
			if l := s.list(time.Unix(2, 0)); l.CopyTOS != tt.copied {
				t.Errorf("%s: listed with CopyTOS %v", tt.name, l.CopyTOS)
			}
		}
	}
}

// A state that an earlier version has made, or that another tun SA has used, is made
// again with the flags that it should have.
func TestTOSFlagsChange(t *testing.T) {
	id := nlxfrm.ID{Dst: here, SPI: 0x101, Proto: uint8(klips.ProtoESP)}
	have, want := newObjects(), newObjects()
	have.states[id] = &nlxfrm.State{ID: id, Flags: nlxfrm.FlagNoECN}
	want.states[id] = &nlxfrm.State{ID: id}
	p, err := diff(have, want, &dump{})
	if err != nil || len(p.rewrites) != 1 || !p.rewrites[0].goesOn {
		t.Errorf("rewrites %+v, %v, want one that goes on", p.rewrites, err)
	}
}

// The kernel pads the headers of AH over IPv4 to 8 bytes unless a flag is set.
func TestAlign8(t *testing.T) {
	for _, tt := range []struct {
		dst    string
		proto  klips.Proto
		align8 bool
		flag   bool // FlagAlign4 is set
	}{
		{"192.0.2.2", klips.ProtoAH, false, true},
		{"192.0.2.2", klips.ProtoAH, true, false},
		{"2001:db8::2", klips.ProtoAH, false, false},
		{"192.0.2.2", klips.ProtoESP, false, false},
	} {
		spec := &klips.SASpec{
			ID:  klips.SAID{Dst: netip.MustParseAddr(tt.dst), SPI: 0x1000, Proto: tt.proto},
			Src: netip.MustParseAddr(tt.dst).Prev(), Transform: klips.Transform{Auth: alg.SHA256}, AuthKey: make([]byte, 32), Align8: tt.align8,
		}
		if tt.proto == klips.ProtoESP {
			spec.Enc = alg.Null
		}
		s, err := newSA(spec, time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.state.Flags&nlxfrm.FlagAlign4 != 0; got != tt.flag {
			t.Errorf("%v, padded %v: flag align4 is %v, want %v", spec.ID, tt.align8, got, tt.flag)
		}
	}
}
