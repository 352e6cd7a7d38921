package manual

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/keyfile"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
)

// savedKeys are the keys of a connection, as texts of key files.
type savedKeys struct {
	words   []string          // the parameters that name the files, in order
	files   map[string][]byte // by parameter
	missing []string          // what the user must do about missing keys, a line each
	marked  bool              // see klips.Keys
}

func (k *savedKeys) clear() {
	for _, text := range k.files {
		clear(text)
	}
}

// readKeys reads the keys of the connection. A key that the stack does not give is missing.
func (f *found) readKeys(ctx context.Context, stack klips.Stack) (*savedKeys, error) {
	s := &savedKeys{files: map[string][]byte{}, marked: true}
	var protected []*klips.SA
	for _, l := range []*layers{&f.in, &f.out} {
		for _, sa := range l.list() {
			if sa != l.tun {
				protected = append(protected, sa)
			}
		}
	}
	keys := map[klips.SAID]klips.Keys{}
	defer func() {
		for _, k := range keys {
			k.Clear()
		}
	}()
	why := ""
	for _, sa := range protected {
		k, err := klips.ReadKeys(ctx, stack, sa.ID)
		switch {
		case errors.Is(err, syscall.EOPNOTSUPP):
			why = "this stack gives no keys"
		case errors.Is(err, syscall.EACCES):
			why = explain.Line(err)
		case err != nil:
			return s, fmt.Errorf("the keys of %s are not given: %s", sa.ID, explain.Line(err))
		}
		keys[sa.ID] = k
		s.marked = s.marked && k.Marked
		if info, _ := sa.Transform.Enc.Info(); sa == f.out.esp && info.AEAD && err == nil && !k.Marked {
			return s, fmt.Errorf("%s: with %s no number may be used twice with one key (RFC 4106), and this stack keeps no sequence marks (IPSEC_STATEDIR), so that the connection would begin at 1 again; ipsec new makes a connection with new keys",
				sa.ID, f.conn.esp)
		}
	}
	if why != "" { // all or none
		s.marked = false
		for id, k := range keys {
			k.Clear()
			keys[id] = klips.Keys{}
		}
	}
	encKey := func(k klips.Keys) []byte { return k.EncKey }
	authKey := func(k klips.Keys) []byte { return k.AuthKey }
	for _, w := range []struct {
		word    string
		in, out *klips.SA // to left and to right
		key     func(klips.Keys) []byte
		bits    func(*klips.SA) int
	}{
		{"espenckey", f.in.esp, f.out.esp, encKey, func(sa *klips.SA) int { return sa.EncKeyBits }},
		{"espauthkey", f.in.esp, f.out.esp, authKey, func(sa *klips.SA) int { return sa.AuthKeyBits }},
		{"ahkey", f.in.ah, f.out.ah, authKey, func(sa *klips.SA) int { return sa.AuthKeyBits }},
	} {
		if w.in == nil || w.bits(w.out) == 0 {
			continue
		}
		l, r := w.key(keys[w.in.ID]), w.key(keys[w.out.ID])
		switch {
		case why != "":
			for i, sa := range []*klips.SA{w.in, w.out} {
				word := sides[i] + w.word
				s.words = append(s.words, word)
				s.missing = append(s.missing, fmt.Sprintf("the key for %s, of %s, is missing: %s; write its %d bits into %s, mode 0600",
					word, sa.ID, why, w.bits(sa), keyName(f.conn.name, word)))
			}
		case 8*len(l) != w.bits(w.in) || 8*len(r) != w.bits(w.out):
			return s, fmt.Errorf("the keys of %s and %s do not have the length that is listed", w.in.ID, w.out.ID)
		case bytes.Equal(l, r):
			s.add(w.word, l)
		default:
			s.add(sides[0]+w.word, l)
			s.add(sides[1]+w.word, r)
		}
	}
	return s, nil
}

// keyName returns the name of the file of a key of a connection.
func keyName(conn, word string) string { return conn + "-" + word + ".key" }

// add adds a key, which the caller clears.
func (s *savedKeys) add(word string, key []byte) {
	s.words = append(s.words, word)
	s.files[word] = keyfile.Format(key, false)
}

// text returns the file of the connection.
func (f *found) text(keys *savedKeys) string {
	var b strings.Builder
	k := f.conn
	b.WriteString("# Saved from SAs and an eroute that were made by hand. This host is left.\n")
	for _, l := range f.lost {
		fmt.Fprintf(&b, "# Not as it was: %s.\n", l)
	}
	for _, m := range keys.missing {
		fmt.Fprintf(&b, "# %s.\n", m)
	}
	if f.binding != "" || f.hidesTOS {
		b.WriteString("config setup\n")
		if f.binding != "" {
			fmt.Fprintf(&b, "\tinterfaces=\"%s\"\n", f.binding)
		}
		if f.hidesTOS {
			b.WriteString("\thidetos=yes\n")
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "conn %s\n", k.name)
	for _, p := range k.params() {
		switch {
		case p.name == "espreplay_window" && k.esp != "" && p.value == "", p.name == "ahreplay_window" && k.ah != "" && p.value == "":
			fmt.Fprintf(&b, "\t%s=0\n", p.name)
		case p.value == "", p.name == "this end", p.name == "device", p.name == "epoch", p.name == "hidetos":
		case p.name == "type" && k.tun:
		case p.value == "no", p.name == "mtu" && p.value == "auto":
		case strings.HasSuffix(p.name, "natport") && p.value == fmt.Sprint(natPort):
		case strings.HasSuffix(p.name, "protoport"):
			fmt.Fprintf(&b, "\t%s=%s\n", p.name, strings.TrimSuffix(p.value, "/0"))
		default:
			fmt.Fprintf(&b, "\t%s=%s\n", p.name, p.value)
		}
	}
	for _, w := range keys.words {
		fmt.Fprintf(&b, "\t%s=@%s\n", w, keyName(k.name, w))
	}
	b.WriteString("\tauto=start\n")
	return b.String()
}

// check reads the text as ipsec up will read it, and returns an error if the result is another
// connection than the one that was found.
func (f *found) check(path, text string, h host.Host) error {
	l := conf.Loader{ReadFile: func(string) ([]byte, error) { return []byte(text), nil }}
	c, err := configure(l, path, h, host.Identity{})
	if err != nil {
		return fmt.Errorf("it cannot be a connection: %w", err)
	}
	c.attaches = true
	k, _, err := c.connection([]string{f.conn.name}, false)
	if err != nil {
		var inFile *conf.Error
		if errors.As(err, &inFile) {
			err = errors.New(inFile.Msg) // nobody has the file with its lines yet
		}
		return fmt.Errorf("it cannot be a connection: %w", err)
	}
	if f.binding == "" {
		f.conn.iface = k.iface // any will do
	}
	if d := differences(f.conn, k); len(d) > 0 {
		return fmt.Errorf("it cannot be a connection: %v", d[0])
	}
	return nil
}
