package advice

import (
	"bytes"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// TestSA makes SAs on a host with the addresses 192.0.2.1, 2001:db8::1 and fe80::1.
func TestSA(t *testing.T) {
	key := func(n int) []byte { return bytes.Repeat([]byte{7}, n) }
	const (
		out, in   = "esp0x100@192.0.2.2", "esp0x200@192.0.2.1"
		out6, in6 = "esp0x100@2001:db8::2", "esp0x200@2001:db8::1"
		clear     = "it encrypts and does not authenticate"
		replays   = "without a replay window"
	)
	aes := klips.SASpec{Transform: klips.Transform{Enc: alg.AES}, EncKey: key(16)}
	sha := klips.SASpec{Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: key(16), AuthKey: key(20)}
	ah := klips.SASpec{Transform: klips.Transform{Auth: alg.SHA1}, AuthKey: key(20)}
	gcm := klips.SASpec{Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: key(20)}
	with := func(s klips.SASpec, change func(*klips.SASpec)) klips.SASpec { change(&s); return s }
	window := func(s *klips.SASpec) { s.Window = 32 }
	zeroEnc := func(s *klips.SASpec) { s.EncKey = make([]byte, len(s.EncKey)) }
	saltOnly := func(s *klips.SASpec) { s.EncKey = append(make([]byte, 16), 1, 2, 3, 4) }
	zeroAuth := func(s *klips.SASpec) { s.AuthKey = make([]byte, len(s.AuthKey)) }

	for _, tt := range []struct {
		name  string
		id    string
		spec  klips.SASpec
		group string   // from the innermost SA to the outermost; empty: the SA alone
		want  []string // words of each note
	}{
		{"out", out, sha, "", nil},
		{"out, IPv6", out6, sha, "", nil},
		{"in, with a window", in, with(sha, window), "", nil},
		{"in", in, sha, "", []string{replays + " it takes packets again that somebody has recorded (RFC 4303 section 3.4.3); give inbound SAs one: --replay_window 64, in ipsec.conf espreplay_window=64"}},
		{"in, IPv6", in6, sha, "", []string{replays}},
		{"in, AH", "ah0x200@192.0.2.1", ah, "", []string{"ahreplay_window=64"}},
		{"in, AH, IPv6", "ah0x200@2001:db8::1", ah, "", []string{replays}},
		{"in, combined mode", in, gcm, "", []string{replays}},
		{"out, combined mode", out, gcm, "", nil},
		{"no authentication", out, aes, "", []string{clear}},
		{"no authentication, in, where a window does not help", in6, with(aes, window), "", []string{clear}},
		{"no authentication, in a group without", in, aes, "tun0x200@192.0.2.1 " + in, []string{clear}},
		{"an ah SA outside authenticates", in, aes, in + " ah0x201@192.0.2.1", nil},
		{"an ah SA outside has a window", in, sha, in + " ah0x264@192.0.2.1", nil},
		{"an ah SA outside has none", in, sha, in + " ah0x201@192.0.2.1", []string{replays}},
		{"zeros", out, with(sha, zeroEnc), "", []string{"its encryption key is all zeros"}},
		{"zeros for authentication", out6, with(sha, zeroAuth), "", []string{"its authentication key is all zeros"}},
		{"zeros everywhere", in, with(with(sha, zeroEnc), zeroAuth), "", []string{"encryption", "authentication", replays}},
		{"zeros but for the salt", out, with(gcm, saltOnly), "", []string{"its encryption key is all zeros"}},
		{"NULL has no key", out, klips.SASpec{Transform: klips.Transform{Enc: alg.Null, Auth: alg.SHA1}, AuthKey: key(20)}, "", nil},
		{"to a group", "ah0x200@ff02::5", ah, "", nil},
		{"to a group, with a window", "ah0x200@ff02::5", with(ah, window), "", []string{"its replay window takes their numbers for those of one host"}},
		{"to a group, combined mode", "esp0x200@224.0.0.5", gcm, "", []string{"so they use nonces twice"}},
		{"to a group, combined mode, with a window", "esp0x200@224.0.0.5", with(gcm, window), "", []string{"nonces", "window"}},
		{"from neighbours", "ah0x200@fe80::1", ah, "", nil},
		{"tun", "tun0x200@192.0.2.1", klips.SASpec{}, "", nil},
		{"comp", "comp0x200@192.0.2.1", klips.SASpec{Transform: klips.Transform{Comp: alg.Deflate}}, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.group == "" {
				tt.group = tt.id
			}
			w := newWorld(t, tt.group)
			spec := tt.spec
			spec.ID = said(t, tt.id)
			for i := range w.sas {
				switch sa := &w.sas[i]; {
				case sa.ID == spec.ID:
					sa.Transform, sa.Window = spec.Transform, spec.Window
				case sa.ID.Proto == klips.ProtoAH:
					sa.Transform = ah.Transform
					if sa.ID.SPI == 0x264 {
						sa.Window = 64
					}
				}
			}
			check := SA(&spec)
			if check == nil {
				if tt.want != nil {
					t.Fatalf("nothing to look at, want %q", tt.want)
				}
				return
			}
			spec.EncKey, spec.AuthKey = nil, nil // it does not keep them
			notes := check(t.Context(), w)
			if len(notes) != len(tt.want) {
				t.Fatalf("notes %q, want %d", notes, len(tt.want))
			}
			for i, n := range notes {
				if !strings.HasPrefix(n, tt.id+": ") || !strings.Contains(n, tt.want[i]) {
					t.Errorf("note %q, want one of %s with %q", n, tt.id, tt.want[i])
				}
			}
		})
	}
}

func TestSameKey(t *testing.T) {
	const out, out2, in, in2 = "esp0x100@192.0.2.2", "esp0x101@2001:db8::2", "esp0x200@192.0.2.1", "esp0x201@2001:db8::1"
	for _, tt := range []struct{ name, id, others, want string }{
		{"alone", out, "", ""},
		{"the other way", out, in, out + " and " + in + ": both directions have one key and salt; "},
		{"the other way, made last", in, out, out + " and " + in + ": both directions have one key and salt; "},
		{"two in", in2, in, in + " and " + in2 + ": two inbound SAs have one key and salt; "},
		{"two out, as was asked for", out2, out, ""},
		{"two out and one in", out2, out + " " + in, out2 + " and " + in + ": both directions"},
		{"several, as was asked for", in2, "reuse " + in, ""},
		{"one that has gone meanwhile", out, "esp0x999@192.0.2.1", ""},
	} {
		w := newWorld(t, out, out2, in, in2)
		spec := klips.SASpec{ID: said(t, tt.id), Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: bytes.Repeat([]byte{7}, 20), Window: 64}
		tt.others, spec.ReuseKey = strings.CutPrefix(tt.others, "reuse ")
		for i := range w.sas {
			w.sas[i].Transform, w.sas[i].Window = spec.Transform, 64
			if w.sas[i].ID == spec.ID {
				w.sas[i].SameKey = list(t, tt.others)
			}
		}
		notes := SA(&spec)(t.Context(), w)
		if tt.want == "" && notes != nil || tt.want != "" && (len(notes) != 1 || !strings.HasPrefix(notes[0], tt.want)) {
			t.Errorf("%s: notes %q, want %q", tt.name, notes, tt.want)
		}
	}
}
