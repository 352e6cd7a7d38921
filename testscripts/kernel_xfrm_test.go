package testscripts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// xfrmHost returns a host with a connection to its kernel's IPsec.
func xfrmHost(t *testing.T) (*lab.Host, *nlxfrm.Conn) {
	t.Helper()
	need(t, "root", "tun", "esp")
	h, err := lab.NewHost("xfrm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	var c *nlxfrm.Conn
	if err := h.Do(func() (err error) { c, err = nlxfrm.Dial(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return h, c
}

var xfrmEnds = [2][2]netip.Addr{
	{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
	{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")},
}

func xfrmKey(bits int) nlxfrm.Key {
	b := make(nlxfrm.Key, bits/8)
	for i := range b {
		b[i] = byte(i*37 + 11)
	}
	return b
}

// aState returns an ESP state between the ends of a family.
func aState(spi uint32, family int) *nlxfrm.State {
	return &nlxfrm.State{ID: nlxfrm.ID{Dst: xfrmEnds[family][1], SPI: spi, Proto: 50}, Src: xfrmEnds[family][0],
		Crypt: &nlxfrm.Algorithm{Name: "cbc(aes)", Key: xfrmKey(128)},
		Auth:  &nlxfrm.AuthAlgorithm{Name: "hmac(sha256)", TruncateBits: 128, Key: xfrmKey(256)}}
}

// An xfrmState is a state, with the words that ip(8) prints for it.
type xfrmState struct {
	*nlxfrm.State
	shows []string
}

func xfrmStates() (all []xfrmState) {
	add := func(s *nlxfrm.State, shows ...string) { all = append(all, xfrmState{s, shows}) }
	for f := range 2 {
		n := uint32(0x1000 * (f + 1))
		s := aState(n, f)
		s.ReqID, s.ReplayWindow, s.Flags = 7, 32, nlxfrm.FlagNoECN|nlxfrm.FlagNoPMTUDisc
		s.ExtraFlags = nlxfrm.ExtraDontEncapDSCP | nlxfrm.ExtraOSeqMayWrap
		add(s, "reqid 7(0x00000007) mode transport", "replay-window 32", "noecn nopmtudisc", "extra_flag dont-encap-dscp oseq-may-wrap",
			"auth-trunc hmac(sha256) 0x"+fmt.Sprintf("%x", []byte(xfrmKey(256)))+" (256 bits) 128", "enc cbc(aes) 0x"+fmt.Sprintf("%x", []byte(xfrmKey(128))))

		s = aState(n+1, f)
		s.Mode, s.Flags = nlxfrm.ModeTunnel, nlxfrm.FlagAFUnspec
		s.ReplayWindow, s.Replay = 8, &nlxfrm.Replay{OutSeq: 0x10, Seq: 0x20, Bitmap: 0x81}
		s.Current = nlxfrm.Current{Bytes: 1000, Packets: 10, AddTime: 1e9, UseTime: 1e9 + 5}
		add(s, "mode tunnel", "replay-window 8", "af-unspec", "seq 0x20, oseq 0x10, bitmap 0x00000081", "1000(bytes), 10(packets)",
			"add 2001-09-09 01:46:40 use 2001-09-09 01:46:45")

		s = aState(n+2, f)
		s.Flags = nlxfrm.FlagESN
		s.ReplayESN = nlxfrm.NewReplayESN(nlxfrm.MaxWindow)
		s.ReplayESN.OutSeq, s.ReplayESN.OutSeqHigh, s.ReplayESN.Seq, s.ReplayESN.SeqHigh = 6, 2, 5, 1
		s.ReplayESN.Bitmap[3], s.ReplayESN.Bitmap[127] = 0x80000001, 0x12345678
		add(s, "esn", "seq-hi 0x1, seq 0x5, oseq-hi 0x2, oseq 0x6", "replay_window 4096, bitmap-length 128", "12345678")

		s = aState(n+3, f)
		s.ReplayESN = nlxfrm.NewReplayESN(64) // without extended numbers
		s.Crypt, s.Auth = nil, nil
		s.AEAD = &nlxfrm.AEADAlgorithm{Name: "rfc4106(gcm(aes))", ICVBits: 96, Key: xfrmKey(256 + 32)}
		s.Mark, s.IfID = nlxfrm.Mark{Value: 0x10, Mask: 0xff}, 0x4b
		add(s, "aead rfc4106(gcm(aes))", "(288 bits) 96", "mark 0x10/0xff", "if_id 0x4b", "replay_window 64, bitmap-length 2")

		s = aState(n+4, f)
		s.Mode, s.TFCPad, s.OutputMark = nlxfrm.ModeTunnel, 64, nlxfrm.Mark{Value: 0x20, Mask: 0xf0}
		s.Limits = nlxfrm.Limits{SoftBytes: 50, HardBytes: 60, SoftPackets: 70, HardPackets: 80,
			SoftAddSeconds: 1000, HardAddSeconds: 2000, SoftUseSeconds: 3000, HardUseSeconds: 4000}
		add(s, "tfcpad 64", "output-mark 0x20/0xf0", "soft 50(bytes), hard 60(bytes)", "soft 70(packets), hard 80(packets)",
			"expire add: soft 1000(sec), hard 2000(sec)", "expire use: soft 3000(sec), hard 4000(sec)")

		s = aState(n+5, f)
		s.Proto, s.Crypt, s.Flags = 51, nil, nlxfrm.FlagAlign4
		add(s, "proto ah", "align4")

		s = aState(n+6, f)
		s.Proto, s.Crypt, s.Auth, s.Comp = 108, nil, nil, "deflate"
		add(s, "proto comp", "comp deflate")

		s = aState(n+7, f)
		s.Encap = &nlxfrm.Encap{Type: nlxfrm.EncapESPInUDP, SrcPort: 4500, DstPort: 4501, Original: xfrmEnds[f][0].Next()}
		s.Selector = nlxfrm.Selector{Src: netip.PrefixFrom(xfrmEnds[f][0], 30), Dst: netip.PrefixFrom(xfrmEnds[f][1], 31),
			Proto: 6, SrcPort: 80, SrcPortMask: 0xffff, DstPort: 1024, DstPortMask: 0xfff0}
		// ip(8) prints a mask only if it has some but not all bits.
		add(s, "encap type espinudp sport 4500 dport 4501 addr "+xfrmEnds[f][0].Next().String(), "proto tcp sport 80 dport 1024")

		s = aState(n+8, f)
		s.Crypt = &nlxfrm.Algorithm{Name: "ecb(cipher_null)"}
		add(s, "enc ecb(cipher_null)")
	}
	return all
}

// ipShows runs ip(8) and returns its output, split into objects, with every run of
// white space as one space.
func ipShows(t *testing.T, h *lab.Host, line string) []string {
	t.Helper()
	out, err := runOn(h, "", line)
	if err != nil {
		t.Fatal(err)
	}
	var objects []string
	for _, o := range strings.Split("\n"+out, "\nsrc ")[1:] {
		objects = append(objects, "src "+strings.Join(strings.Fields(o), " "))
	}
	return objects
}

func checkShown(t *testing.T, objects []string, name string, words ...string) {
	t.Helper()
	i := slices.IndexFunc(objects, func(o string) bool { return strings.Contains(o, name) })
	if i < 0 {
		t.Errorf("ip shows no %s", name)
		return
	}
	for _, w := range words {
		if !strings.Contains(objects[i], w) {
			t.Errorf("ip does not show %q of:\n%s", w, objects[i])
		}
	}
}

// xfrmSame compares a request with the object that the kernel has made.
var xfrmSame = []cmp.Option{cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

// asKernel returns the state in the form in which the kernel lists it.
func asKernel(s, listed *nlxfrm.State) *nlxfrm.State {
	w := *s
	w.Family = map[bool]uint16{true: nlxfrm.FamilyIPv4, false: nlxfrm.FamilyIPv6}[s.Dst.Is4()]
	if !w.Selector.Dst.IsValid() && w.Flags&nlxfrm.FlagAFUnspec == 0 {
		any := netip.PrefixFrom(map[bool]netip.Addr{true: netip.IPv4Unspecified(), false: netip.IPv6Unspecified()}[s.Dst.Is4()], 0)
		w.Selector.Dst, w.Selector.Src = any, any
	}
	if w.Flags&nlxfrm.FlagAFUnspec == 0 {
		w.Selector.Family = w.Family
	}
	if w.ReplayESN == nil && w.Replay == nil {
		w.Replay = &nlxfrm.Replay{}
	}
	if w.Current == (nlxfrm.Current{}) {
		w.Current.AddTime = listed.Current.AddTime
		if d := time.Since(time.Unix(int64(w.Current.AddTime), 0)); d < -time.Minute || d > time.Hour {
			w.Current.AddTime = 0 // the kernel fills it in
		}
	}
	return &w
}

// TestInteropXFRMStates: states of every kind, written by our codec, are the same in
// the output of ip(8) and in that of our decoder.
func TestInteropXFRMStates(t *testing.T) {
	h, c := xfrmHost(t)
	ctx, cancel := context.WithTimeout(context.Background(), guestTime)
	defer cancel()
	states := xfrmStates()
	for _, s := range states {
		if err := c.AddState(ctx, s.State); err != nil {
			t.Fatal(err)
		}
	}
	listed, err := c.DumpStates(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(listed) != len(states) {
		t.Errorf("%d states are listed, want %d", len(listed), len(states))
	}
	shown := ipShows(t, h, "ip -s xfrm state")
	for _, s := range states {
		i := slices.IndexFunc(listed, func(l *nlxfrm.State) bool { return l.ID == s.ID })
		if i < 0 {
			t.Errorf("%v is not listed", s.ID)
			continue
		}
		want := asKernel(s.State, listed[i])
		if d := cmp.Diff(want, listed[i], xfrmSame...); d != "" {
			t.Errorf("%v in the list (-want +got):\n%s", s.ID, d)
		}
		got, err := c.GetState(ctx, s.ID, s.Mark)
		if err != nil {
			t.Error(err)
		} else if d := cmp.Diff(listed[i], got, xfrmSame...); d != "" {
			t.Errorf("%v by itself (-listed +got):\n%s", s.ID, d)
		}
		ae, err := c.GetAE(ctx, s.ID, s.Mark)
		wantAE := &nlxfrm.AE{ID: s.ID, Src: s.Src, ReqID: s.ReqID, Mark: s.Mark, IfID: s.IfID, Current: &want.Current, Replay: want.Replay, ReplayESN: want.ReplayESN}
		if d := cmp.Diff(wantAE, ae, xfrmSame...); err != nil || d != "" {
			t.Errorf("%v: %v: replay state (-want +got):\n%s", s.ID, err, d)
		}
		checkShown(t, shown, fmt.Sprintf("spi 0x%08x", s.SPI), s.shows...)
	}
	for proto, want := range map[uint8]int{50: 14, 51: 2, 108: 2} {
		if got, err := c.DumpStates(ctx, proto); err != nil || len(got) != want {
			t.Errorf("%d states of protocol %d, error %v, want %d", len(got), proto, err, want)
		}
	}
	// A state that is added again has all its attributes.
	for _, s := range listed {
		if err := c.DeleteState(ctx, s.ID, s.Mark); err != nil {
			t.Error(err)
		}
		if _, err := c.GetState(ctx, s.ID, s.Mark); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("after its end: error %v, want %v", err, syscall.ESRCH)
		}
		if err := c.AddState(ctx, s); err != nil {
			t.Error(err)
		}
		got, err := c.GetState(ctx, s.ID, s.Mark)
		if d := cmp.Diff(s, got, xfrmSame...); err != nil || d != "" {
			t.Errorf("%v made again: %v (-want +got):\n%s", s.ID, err, d)
		}
	}
	xfrmUpdates(ctx, t, c)
}

// xfrmUpdates checks changes of existing states.
func xfrmUpdates(ctx context.Context, t *testing.T, c *nlxfrm.Conn) {
	s := aState(0x1007, 0)
	s.Encap = &nlxfrm.Encap{Type: nlxfrm.EncapESPInUDP, SrcPort: 4500, DstPort: 40000}
	s.Limits.HardPackets = 1 << 40
	if err := c.UpdateState(ctx, s); err != nil {
		t.Error(err)
	}
	if got, err := c.GetState(ctx, s.ID, s.Mark); err != nil || got.Encap.DstPort != 40000 || got.Limits != s.Limits {
		t.Errorf("after the update: %+v, error %v", got, err)
	}
	a := &nlxfrm.AE{ID: aState(0x1001, 0).ID, Replay: &nlxfrm.Replay{OutSeq: 100, Seq: 200, Bitmap: 5}}
	if err := c.UpdateAE(ctx, a); err != nil {
		t.Error(err)
	}
	got, err := c.GetAE(ctx, a.ID, a.Mark)
	if err != nil || *got.Replay != *a.Replay || got.Current.Packets != 10 {
		t.Errorf("after the update: %+v, error %v", got, err)
	}
	a = &nlxfrm.AE{ID: aState(0x2002, 1).ID, ReplayESN: nlxfrm.NewReplayESN(nlxfrm.MaxWindow), Current: &nlxfrm.Current{Bytes: 1, Packets: 2, AddTime: 3, UseTime: 4}}
	a.ReplayESN.OutSeqHigh, a.ReplayESN.Bitmap[100] = 9, 1<<31
	if err := c.UpdateAE(ctx, a); err != nil {
		t.Error(err)
	}
	got, err = c.GetAE(ctx, a.ID, a.Mark)
	if d := cmp.Diff(a.ReplayESN, got.ReplayESN); err != nil || d != "" || *got.Current != *a.Current {
		t.Errorf("after the update: error %v, counters %+v (-want +got):\n%s", err, got.Current, d)
	}
	a.ReplayESN = nlxfrm.NewReplayESN(64)
	if err := c.UpdateAE(ctx, a); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("another window: error %v, want %v", err, syscall.EINVAL)
	}
}

// TestInteropXFRMPolicies: the same for policies.
func TestInteropXFRMPolicies(t *testing.T) {
	h, c := xfrmHost(t)
	ctx, cancel := context.WithTimeout(context.Background(), guestTime)
	defer cancel()
	type shown struct {
		*nlxfrm.Policy
		shows []string
	}
	var policies []shown
	for f, nets := range [2][2]string{{"10.1.0.0/16", "10.2.0.0/16"}, {"fd01::/16", "fd02::/16"}} {
		src, dst := netip.MustParsePrefix(nets[0]), netip.MustParsePrefix(nets[1])
		end := func(proto uint8, spi uint32, mode nlxfrm.Mode) nlxfrm.Template {
			return nlxfrm.Template{ID: nlxfrm.ID{Dst: xfrmEnds[1-f][1], SPI: spi, Proto: proto}, Src: xfrmEnds[1-f][0], ReqID: 3, Mode: mode}
		}
		for dir := range 3 {
			comp := end(108, 0, nlxfrm.ModeTunnel)
			comp.Optional = nlxfrm.Dir(dir) != nlxfrm.DirOut
			level := map[bool]string{true: "level use ", false: ""}[comp.Optional]
			policies = append(policies, shown{&nlxfrm.Policy{
				Selector: nlxfrm.Selector{Src: src, Dst: dst}, Dir: nlxfrm.Dir(dir), Priority: 0x80000001,
				Templates: []nlxfrm.Template{comp, end(50, 0x100, nlxfrm.ModeTransport), end(51, 0, nlxfrm.ModeTransport)},
			}, []string{"priority 2147483649", "tmpl src " + xfrmEnds[1-f][0].String() + " dst " + xfrmEnds[1-f][1].String() + " proto comp",
				"reqid 3(0x00000003) mode tunnel " + level, "proto esp spi 0x00000100", "proto ah"}})
		}
		policies = append(policies, shown{&nlxfrm.Policy{
			Selector: nlxfrm.Selector{Src: src, Dst: dst, Proto: 17, SrcPort: 53, SrcPortMask: 0xffff, DstPort: 5353, DstPortMask: 0xffff, IfIndex: 1},
			Dir:      nlxfrm.DirOut, Action: nlxfrm.Block, Flags: nlxfrm.PolicyICMP | nlxfrm.PolicyLocalOK, IfID: 0x4b4c4950,
			Mark: nlxfrm.Mark{Value: 7, Mask: 0xf}, Limits: nlxfrm.Limits{HardAddSeconds: 9999, HardPackets: 3},
		}, []string{"proto udp sport 53 dport 5353 dev lo", "action block", "flag localok icmp", "if_id 0x4b4c4950", "mark 0x7/0xf", "hard 9999(sec)", "hard 3(packets)"}})
	}
	for _, p := range policies {
		if err := c.AddPolicy(ctx, p.Policy); err != nil {
			t.Fatal(err)
		}
		if err := c.AddPolicy(ctx, p.Policy); !errors.Is(err, syscall.EEXIST) {
			t.Errorf("%v once more: error %v, want %v", p.Key(), err, syscall.EEXIST)
		}
		p.Priority++ // not part of the key
		if err := c.UpdatePolicy(ctx, p.Policy); err != nil {
			t.Error(err)
		}
		p.Priority--
		if err := c.UpdatePolicy(ctx, p.Policy); err != nil {
			t.Error(err)
		}
	}
	listed, err := c.DumpPolicies(ctx)
	if err != nil || len(listed) != len(policies) {
		t.Fatalf("%d policies are listed, error %v, want %d", len(listed), err, len(policies))
	}
	ip := ipShows(t, h, "ip -s xfrm policy")
	for _, p := range policies {
		got, err := c.GetPolicy(ctx, p.Key())
		if err != nil {
			t.Error(err)
			continue
		}
		want := *p.Policy
		want.Selector.Family = map[bool]uint16{true: nlxfrm.FamilyIPv4, false: nlxfrm.FamilyIPv6}[p.Selector.Dst.Addr().Is4()]
		want.Index, want.Current = got.Index, nlxfrm.Current{AddTime: got.Current.AddTime}
		want.Templates = slices.Clone(p.Templates)
		for i := range want.Templates {
			want.Templates[i].Family = map[bool]uint16{true: nlxfrm.FamilyIPv4, false: nlxfrm.FamilyIPv6}[want.Templates[i].Dst.Is4()]
		}
		if d := cmp.Diff(&want, got, xfrmSame...); d != "" {
			t.Errorf("%v (-want +got):\n%s", p.Key(), d)
		}
		if !slices.ContainsFunc(listed, func(l *nlxfrm.Policy) bool { return cmp.Equal(l, got, xfrmSame...) }) {
			t.Errorf("%v is not listed as it is shown by itself: %+v", p.Key(), got)
		}
		byIndex := nlxfrm.PolicyKey{Dir: p.Dir, Index: got.Index, Mark: p.Mark, IfID: p.IfID}
		if again, err := c.GetPolicy(ctx, byIndex); err != nil || !cmp.Equal(got, again, xfrmSame...) {
			t.Errorf("%v: %+v, error %v", byIndex, again, err)
		}
		checkShown(t, ip, fmt.Sprintf("dir %v action %v index %d ", p.Dir, p.Action, got.Index), p.shows...)
		key := p.Key()
		if p.Dir == nlxfrm.DirFwd {
			key = byIndex
		}
		if err := c.DeletePolicy(ctx, key); err != nil {
			t.Error(err)
		}
		if _, err := c.GetPolicy(ctx, byIndex); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("after its end: error %v, want %v", err, syscall.ENOENT)
		}
	}
	if listed, err := c.DumpPolicies(ctx); err != nil || len(listed) != 0 {
		t.Errorf("%d policies are left, error %v", len(listed), err)
	}
}

// TestInteropXFRMErrors: errors have the kernel's errno and text.
func TestInteropXFRMErrors(t *testing.T) {
	_, c := xfrmHost(t)
	ctx, cancel := context.WithTimeout(context.Background(), guestTime)
	defer cancel()
	good := aState(0x100, 0)
	if err := c.AddState(ctx, good); err != nil {
		t.Fatal(err)
	}
	ipip := aState(0x200, 0)
	ipip.Proto, ipip.Crypt, ipip.Auth = 4, nil, nil
	cipher := aState(0x200, 0)
	cipher.Crypt.Name = "cbc(enigma)"
	both := aState(0x200, 0)
	both.ReplayWindow, both.ReplayESN = 32, nlxfrm.NewReplayESN(64)
	short := aState(0x200, 0)
	short.Crypt.Key = make(nlxfrm.Key, 3)
	bare := &nlxfrm.Policy{Selector: nlxfrm.Selector{Src: netip.MustParsePrefix("10.0.0.0/8")}, Dir: 3}
	for _, tt := range []struct {
		name string
		r    nlxfrm.Request
		want error
		text string
	}{
		{"twice", nlxfrm.AddState(good), syscall.EEXIST, ""},
		{"delete", nlxfrm.DeleteState(cipher.ID, nlxfrm.Mark{}), syscall.ESRCH, ""},
		{"update", nlxfrm.UpdateState(aState(0x200, 0)), syscall.ESRCH, ""},
		{"replay state", nlxfrm.UpdateAE(&nlxfrm.AE{ID: aState(0x200, 0).ID, Replay: &nlxfrm.Replay{}}), syscall.ESRCH, ""},
		{"nothing to set", nlxfrm.UpdateAE(&nlxfrm.AE{ID: good.ID}), syscall.EINVAL, ""},
		{"IP in IP", nlxfrm.AddState(ipip), syscall.EINVAL, "Unsupported protocol"},
		{"cipher", nlxfrm.AddState(cipher), syscall.ENOSYS, "CRYPT algorithm not found"},
		{"two windows", nlxfrm.AddState(both), syscall.EINVAL, "legacy replay_window"},
		{"direction", nlxfrm.AddPolicy(bare), syscall.EINVAL, "policy direction"},
		{"delete policy", nlxfrm.DeletePolicy((&nlxfrm.Policy{Selector: bare.Selector}).Key()), syscall.ENOENT, ""},
		{"key length", nlxfrm.AddState(short), syscall.EINVAL, ""},
	} {
		err := c.Do(ctx, tt.r)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
		if e := (*nlxfrm.Error)(nil); !errors.As(err, &e) || !strings.Contains(e.Message, tt.text) {
			t.Errorf("%s: error %v without the kernel's words, want %q", tt.name, err, tt.text)
		}
	}
}

// TestInteropXFRMBatch: thousands of requests pass over one socket, and each error
// belongs to the right request.
func TestInteropXFRMBatch(t *testing.T) {
	_, c := xfrmHost(t)
	ctx, cancel := context.WithTimeout(context.Background(), guestTime)
	defer cancel()
	const n = 2000
	var rs []nlxfrm.Request
	for i := range uint32(n) {
		s := aState(0x1000+i, int(i%2))
		s.ReplayESN = nlxfrm.NewReplayESN(nlxfrm.MaxWindow)
		rs = append(rs, nlxfrm.AddState(s))
		if i%100 == 50 {
			rs = append(rs, nlxfrm.AddState(s))
		}
	}
	start := time.Now()
	errs, err := c.Batch(ctx, rs)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d states: %v", n, time.Since(start))
	for i, err := range errs {
		if twice := i%101 == 51; twice != errors.Is(err, syscall.EEXIST) || !twice && err != nil {
			t.Errorf("request %d: error %v", i, err)
		}
	}
	start = time.Now()
	listed, err := c.DumpStates(ctx, 0)
	if err != nil || len(listed) != n {
		t.Fatalf("%d states are listed, error %v, want %d", len(listed), err, n)
	}
	t.Logf("listed: %v", time.Since(start))
	// A list that is cancelled in the middle does not disturb the next one.
	for _, d := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond} {
		short, cancel := context.WithTimeout(ctx, d)
		if _, err := c.DumpStates(short, 0); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: error %v", d, err)
		}
		cancel()
		if got, err := c.DumpStates(ctx, 0); err != nil || len(got) != n {
			t.Errorf("%d states are listed then, error %v, want %d", len(got), err, n)
		}
	}
	rs = nil
	for _, s := range listed {
		rs = append(rs, nlxfrm.DeleteState(s.ID, s.Mark))
	}
	errs, err = c.Batch(ctx, rs)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Error(err)
	}
	if left, err := c.DumpStates(ctx, 0); err != nil || len(left) != 0 {
		t.Errorf("%d states are left, error %v", len(left), err)
	}
}
