package classic_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/procfs"
)

// showSAs writes the tables of SAs and groups.
func (s odd) showSAs(t *testing.T, sas []klips.SA) {
	t.Helper()
	for name, write := range map[string]func(io.Writer, []klips.SA) error{"ipsec_spi": procfs.WriteSPI, "ipsec_spigrp": procfs.WriteSPIGrp} {
		f, err := os.Create(filepath.Join(s.dir, name))
		if err == nil {
			err = errors.Join(write(f, sas), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A group that conflicts with the tables is refused without a message, since removing
// links would break existing groups.
func TestGroupLooksFirst(t *testing.T) {
	a, b, c, d := tun(0x101), tun(0x102), tun(0x103), tun(0x104)
	outbound := []klips.SA{{ID: a, Next: []klips.SAID{b}}, {ID: b}, {ID: c}}
	inbound := []klips.SA{{ID: a, Dir: klips.Inbound}, {ID: b, Dir: klips.Inbound, Next: []klips.SAID{a}}, {ID: c, Dir: klips.Inbound}}
	for _, test := range []struct {
		name   string
		tables []klips.SA
		group  []klips.SAID
		errno  syscall.Errno // 0: KLIPS is asked
		object klips.SAID
	}{
		{"last one missing", outbound, []klips.SAID{c, b, d}, syscall.ENOENT, d},
		{"first one missing", outbound, []klips.SAID{d, b}, syscall.ENOENT, d},
		{"all missing", outbound, []klips.SAID{d, tun(0x105)}, 0, d},
		{"second follower", outbound, []klips.SAID{a, c}, syscall.EEXIST, a},
		{"loop", outbound, []klips.SAID{b, a}, syscall.EEXIST, a},
		{"loop of its own", []klips.SA{{ID: b}, {ID: c}}, []klips.SAID{c, b, c}, syscall.EEXIST, c},
		{"second before", outbound, []klips.SAID{c, b}, syscall.EEXIST, b},
		{"second before at the end", append(outbound, klips.SA{ID: d}), []klips.SAID{d, c, b}, syscall.EEXIST, b},
		{"second before inbound", inbound, []klips.SAID{a, c}, syscall.EEXIST, a},
		{"follower that is freed", []klips.SA{{ID: a, Next: []klips.SAID{{}}}, {ID: b}}, []klips.SAID{a, b}, syscall.EEXIST, a},
		{"named twice", outbound, []klips.SAID{c, c}, syscall.EEXIST, c},
		{"joined", outbound, []klips.SAID{b, c}, 0, c},
		{"second follower inbound", inbound, []klips.SAID{c, b}, syscall.EEXIST, b},
		{"joined inbound", inbound, []klips.SAID{b, c}, 0, c},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := 0
			s := oddKernel(t, func(m *pfkey.Message) []*pfkey.Message {
				asked++
				return []*pfkey.Message{pfkey.Ack(m.Header)}
			})
			s.showSAs(t, test.tables)
			err := s.Group(t.Context(), test.group)
			if test.errno == 0 {
				if err != nil || asked != len(test.group)-1 {
					t.Errorf("Group = %v after %d messages, want it done", err, asked)
				}
				return
			}
			var oe *klips.OpError
			if !errors.Is(err, test.errno) || !errors.As(err, &oe) || oe.Object != test.object.String() || asked != 0 {
				t.Errorf("Group = %v after %d messages, want %v of %v after none", err, asked, test.errno, test.object)
			}
		})
	}
}

// A loop in the tables does not hang the check, and if tables cannot be read KLIPS
// decides.
func TestGroupBrokenTables(t *testing.T) {
	a, b, c := tun(0x101), tun(0x102), tun(0x103)
	s := oddKernel(t, func(m *pfkey.Message) []*pfkey.Message { return []*pfkey.Message{pfkey.Ack(m.Header)} })
	s.showSAs(t, []klips.SA{{ID: a, Next: []klips.SAID{b}}, {ID: b, Next: []klips.SAID{a}}, {ID: c}})
	if err := s.Group(t.Context(), []klips.SAID{c, a}); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("Group of an SA in a loop = %v, want EEXIST", err)
	}
	for _, do := range []struct {
		name string
		do   func(context.Context, klips.SAID) error
	}{{"Ungroup", s.Ungroup}, {"DeleteSA", s.DeleteSA}} {
		if err := do.do(t.Context(), a); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("%s of an SA in a loop = %v, want EBUSY", do.name, err)
		}
	}
	if err := s.ClearSAs(t.Context()); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("ClearSAs with a loop = %v, want EBUSY", err)
	}
	// Nor does a loop that another SA leads into.
	s.showSAs(t, []klips.SA{{ID: a, Next: []klips.SAID{b}}, {ID: b, Next: []klips.SAID{a}}, {ID: c, Next: []klips.SAID{a}}})
	for _, id := range []klips.SAID{a, b, c} {
		if err := errors.Join(s.Ungroup(t.Context(), id), s.DeleteSA(t.Context(), id)); !errors.Is(err, syscall.EBUSY) || strings.Count(err.Error(), "loop") != 2 {
			t.Errorf("Ungroup and DeleteSA of %v before or in a loop = %v, want EBUSY twice", id, err)
		}
	}
	if err := os.Remove(filepath.Join(s.dir, "ipsec_spigrp")); err != nil {
		t.Fatal(err)
	}
	if err := s.Group(t.Context(), []klips.SAID{c, a}); err != nil {
		t.Errorf("Group without tables = %v", err)
	}
}

// KLIPS refuses a pair that the tables allowed, because another program has changed the
// SAs meanwhile. The links made before are removed through their first SA, unless that
// would do more harm; then the error names the links that stay.
func TestGroupIsTakenBack(t *testing.T) {
	a, b, c, d, e := tun(0x101), tun(0x102), tun(0x103), tun(0x104), tun(0x105)
	names := map[klips.SAID]string{a: "a", b: "b", c: "c", d: "d", e: "e"}
	out := func(id klips.SAID, next ...klips.SAID) klips.SA { return klips.SA{ID: id, Next: next, RefCount: 3} }
	in := func(id klips.SAID, next ...klips.SAID) klips.SA {
		return klips.SA{ID: id, Next: next, RefCount: 3, Dir: klips.Inbound}
	}
	last := func(sa klips.SA) klips.SA {
		sa.RefCount = 1
		return sa
	}
	for _, test := range []struct {
		name  string
		now   []klips.SA // when Group begins; nil: no tables
		then  []klips.SA // when the last pair is refused
		group []klips.SAID
		want  string // requests after the refusal
		left  string // the error's words about links that stay
	}{
		{"first pair", []klips.SA{out(a), out(b)}, []klips.SA{out(a), out(b)}, []klips.SAID{a, b}, "", ""},
		{"second pair", []klips.SA{out(a), out(b), out(c)}, []klips.SA{out(a, b), out(b), out(c)}, []klips.SAID{a, b, c}, "a", ""},
		{"no tables", nil, nil, []klips.SAID{a, b, c}, "", "a@ b@ tables"},
		{"others before", []klips.SA{out(e, a), out(a), out(b), out(c)}, []klips.SA{out(e, a, b), out(a, b), out(b), out(c)}, []klips.SAID{a, b, c}, "a", ""},
		{"others behind", []klips.SA{in(a, e), in(e), in(b), in(c)}, []klips.SA{in(b, a, e), in(a, e), in(e), in(c)}, []klips.SAID{a, b, c}, "b/e a", ""},
		{"a follower meanwhile", []klips.SA{out(a), out(b), out(c), out(d)}, []klips.SA{out(a, b, d), out(b, d), out(c), out(d)}, []klips.SAID{a, b, c}, "a/b d", ""},
		{"gone meanwhile", []klips.SA{out(a), out(b), out(c)}, []klips.SA{out(a), out(b)}, []klips.SAID{a, b, c}, "", ""},
		{"last reference", []klips.SA{out(a), last(out(b)), out(c)}, []klips.SA{out(a, b), last(out(b)), out(c)}, []klips.SAID{a, b, c}, "", "a@ b@ free b@"},
		{"last reference of others", []klips.SA{last(in(e)), in(a, e), in(b), in(c)}, []klips.SA{in(b, a, e), in(a, e), last(in(e)), in(c)}, []klips.SAID{a, b, c}, "", "a@ b@ free e@"},
		{"shared meanwhile", []klips.SA{out(a), out(b), out(c), out(e)}, []klips.SA{out(a, b), out(b), out(c), out(e, b)}, []klips.SAID{a, b, c}, "", "a@ b@"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var asked []string
			var s odd
			s = oddKernel(t, func(m *pfkey.Message) []*pfkey.Message {
				ids, err := m.Group()
				if err != nil {
					t.Error(err)
				}
				var text []string
				for _, id := range ids {
					text = append(text, names[id])
				}
				asked = append(asked, strings.Join(text, " "))
				if len(asked) != len(test.group)-1 {
					return []*pfkey.Message{pfkey.Ack(m.Header)}
				}
				if test.then != nil {
					s.showSAs(t, test.then)
				}
				return []*pfkey.Message{pfkey.ErrorReply(m.Header, syscall.EEXIST)}
			})
			if test.now != nil {
				s.showSAs(t, test.now)
			}
			err := s.Group(t.Context(), test.group)
			var oe *klips.OpError
			if !errors.Is(err, syscall.EEXIST) || !errors.As(err, &oe) {
				t.Fatalf("Group = %v, want EEXIST", err)
			}
			if got := strings.Join(asked[len(test.group)-1:], "/"); got != test.want {
				t.Errorf("after the refusal %q was asked for, want %q", got, test.want)
			}
			if (oe.Left == "") != (test.left == "") {
				t.Errorf("Group left %q, want %q", oe.Left, test.left)
			}
			left := oe.Left
			for id, name := range names {
				left = strings.ReplaceAll(left, id.String(), name+"@")
			}
			for _, word := range strings.Fields(test.left) {
				if !strings.Contains(left, word) {
					t.Errorf("Group left %q, want it to tell %q", left, word)
				}
			}
		})
	}
}

// A group is taken apart through its first SA, whichever SA is named. It is refused if
// KLIPS would free an SA or use a freed one.
func TestUngroup(t *testing.T) {
	a, b, c, d, e := tun(0x101), tun(0x102), tun(0x103), tun(0x104), tun(0x105)
	names := map[klips.SAID]string{a: "a", b: "b", c: "c", d: "d", e: "e"}
	sa := func(refs int, id klips.SAID, next ...klips.SAID) klips.SA {
		return klips.SA{ID: id, Next: next, RefCount: refs}
	}
	lives := []klips.SA{sa(3, a, b, c), sa(2, b, c), sa(2, c), sa(3, d)}
	for _, test := range []struct {
		name   string
		tables []klips.SA
		id     klips.SAID
		want   string // the requests
		why    string // words in the refusal
	}{
		{"by the first", lives, a, "a", ""},
		{"by one in the middle", lives, b, "a", ""},
		{"by the last", lives, c, "a", ""},
		{"alone", lives, d, "d", ""},
		{"not there", lives, e, "e", ""},
		{"inbound", []klips.SA{{ID: a, Dir: klips.Inbound, RefCount: 3}, {ID: b, Dir: klips.Inbound, Next: []klips.SAID{a}, RefCount: 3}}, a, "b", ""},
		{"references are not shown", []klips.SA{sa(0, a, b), sa(0, b)}, a, "a", ""},
		{"last reference of the first", []klips.SA{sa(1, a, b), sa(3, b)}, a, "a", ""},
		{"last reference", []klips.SA{sa(3, a, b, c), sa(2, b, c), sa(1, c)}, b, "", "free c@ anew"},
		{"shared follower", []klips.SA{sa(3, a, b), sa(3, b), sa(3, c, b)}, b, "a/c", ""},
		{"shared follower with few references", []klips.SA{sa(3, a, b, d), sa(3, b, d), sa(2, d), sa(3, c, b, d)}, a, "a/c", ""},
		{"shared follower with too few", []klips.SA{sa(3, a, b), sa(1, b), sa(3, c, b)}, c, "", "free b@"},
		{"freed follower", []klips.SA{sa(3, a, b), {ID: b, Next: []klips.SAID{{}}}}, a, "", "freed b@"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var asked []string
			s := oddKernel(t, func(m *pfkey.Message) []*pfkey.Message {
				ids, err := m.Group()
				if err != nil || len(ids) != 1 {
					t.Errorf("asked for %v, %v", ids, err)
				}
				asked = append(asked, names[ids[0]])
				return []*pfkey.Message{pfkey.Ack(m.Header)}
			})
			s.showSAs(t, test.tables)
			err := s.Ungroup(t.Context(), test.id)
			if got := strings.Join(asked, "/"); got != test.want {
				t.Errorf("asked for %q, want %q", got, test.want)
			}
			wantRefusal(t, err, test.why, names)
		})
	}
}

// wantRefusal checks for EBUSY with some words in its reason, or for no error if there
// are none.
func wantRefusal(t *testing.T, err error, words string, names map[klips.SAID]string) {
	t.Helper()
	if words == "" {
		if err != nil {
			t.Error(err)
		}
		return
	}
	var oe *klips.OpError
	if !errors.Is(err, syscall.EBUSY) || !errors.As(err, &oe) {
		t.Fatalf("it returned %v, want EBUSY", err)
	}
	why := oe.Reason
	for id, name := range names {
		why = strings.ReplaceAll(why, id.String(), name+"@")
	}
	for _, word := range strings.Fields(words) {
		if !strings.Contains(why, word) {
			t.Errorf("the reason is %q, want it to tell %q", why, word)
		}
	}
}

// An SA is removed with its group through the first SA. It is refused if KLIPS would
// leave an SA that points at a freed one.
func TestDelete(t *testing.T) {
	a, b, c, d := tun(0x101), tun(0x102), tun(0x103), tun(0x104)
	names := map[klips.SAID]string{a: "a", b: "b", c: "c", d: "d"}
	sound := []klips.SA{{ID: a, Next: []klips.SAID{b, c}}, {ID: b, Next: []klips.SAID{c}}, {ID: c}}
	shared := []klips.SA{{ID: a, Next: []klips.SAID{b}}, {ID: b}, {ID: c, Next: []klips.SAID{b}}, {ID: d}}
	freed := []klips.SA{{ID: a, Next: []klips.SAID{{}}}, {ID: d}}
	for _, test := range []struct {
		name   string
		tables []klips.SA
		id     klips.SAID // the zero SAID: all
		want   string
		why    string
	}{
		{"the first", sound, a, "a", ""},
		{"one in the middle", sound, b, "a", ""},
		{"the last", sound, c, "a", ""},
		{"not there", sound, d, "d", ""},
		{"all", sound, klips.SAID{}, "all", ""},
		{"shared follower", shared, a, "", "a@ c@ share apart"},
		{"beside a shared follower", shared, d, "d", ""},
		{"all with a shared follower", shared, klips.SAID{}, "", "a@ c@ share apart"},
		{"freed follower", freed, a, "", "freed a@ eroutes"},
		{"beside a freed follower", freed, d, "d", ""},
		{"all with a freed follower", freed, klips.SAID{}, "", "freed a@ eroutes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := ""
			s := oddKernel(t, func(m *pfkey.Message) []*pfkey.Message {
				if asked = "all"; m.Type == pfkey.TypeDelete {
					id, err := m.SAID()
					if err != nil {
						t.Error(err)
					}
					asked = names[id]
				}
				return []*pfkey.Message{pfkey.Ack(m.Header)}
			})
			s.showSAs(t, test.tables)
			var err error
			if test.id == (klips.SAID{}) {
				err = s.ClearSAs(t.Context())
			} else {
				err = s.DeleteSA(t.Context(), test.id)
			}
			if asked != test.want {
				t.Errorf("asked for %q, want %q", asked, test.want)
			}
			wantRefusal(t, err, test.why, names)
		})
	}
}

// SAs whose line cannot be parsed are not changed; other SAs are not affected.
func TestUnreadLines(t *testing.T) {
	a, b, c, d := tun(0x101), tun(0x102), tun(0x103), tun(0x104)
	names := map[klips.SAID]string{a: "a", b: "b", c: "c", d: "d"}
	for _, table := range []string{"ipsec_spi", "ipsec_spigrp"} {
		t.Run(table, func(t *testing.T) {
			asked := 0
			s := oddKernel(t, func(m *pfkey.Message) []*pfkey.Message {
				asked++
				return []*pfkey.Message{pfkey.Ack(m.Header)}
			})
			s.showSAs(t, []klips.SA{{ID: a, Next: []klips.SAID{b}}, {ID: b}, {ID: c}, {ID: d}})
			path := filepath.Join(s.dir, table)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			odd := strings.Replace(string(text), a.String()+" ", a.String()+" ? ", 1)
			if err := os.WriteFile(path, []byte(odd), 0o600); err != nil {
				t.Fatal(err)
			}
			wantRefusal(t, s.Group(t.Context(), []klips.SAID{a, c}), "line a@ read", names)
			wantRefusal(t, s.Group(t.Context(), []klips.SAID{c, a}), "line a@ read", names)
			wantRefusal(t, s.Ungroup(t.Context(), a), "line a@ read", names)
			if table == "ipsec_spigrp" { // the other one is not needed
				wantRefusal(t, s.DeleteSA(t.Context(), a), "line a@ read", names)
				wantRefusal(t, s.DeleteSA(t.Context(), b), "line b@ read", names)
				wantRefusal(t, s.Group(t.Context(), []klips.SAID{c, b}), "line b@ read", names)
			}
			if asked > 0 {
				t.Errorf("KLIPS was asked %d times", asked)
			}
			if err := s.Group(t.Context(), []klips.SAID{c, d}); err != nil || asked != 1 {
				t.Errorf("Group of others = %v after %d messages", err, asked)
			}
		})
	}
}
