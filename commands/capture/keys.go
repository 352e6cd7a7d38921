package capture

import (
	"bytes"
	"context"
	"os"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/commands/internal/sakeys"
	"github.com/klips-go/ipsec/klips"
)

// A keyFile is the file esp_sa of Wireshark, with the keys of the SAs that have existed during
// the capture.
type keyFile struct {
	env   *cli.Env
	name  string
	file  *os.File
	known map[klips.SAID]bool // the SAs in the tables whose keys are in the file
	begun bool
}

// newKeyFile makes a file that only its owner can read.
func newKeyFile(env *cli.Env, name string, overwrite bool) (*keyFile, error) {
	f, err := create(name, overwrite)
	if err != nil {
		return nil, err
	}
	return &keyFile{env: env, name: name, file: f}, nil
}

// add adds the keys of the ESP SAs that are new in the tables. After an error they are added
// the next time.
func (k *keyFile) add(ctx context.Context, s klips.Stack, t *klips.Snapshot) error {
	c := &render.Config{}
	defer c.Clear()
	now := map[klips.SAID]bool{}
	for i := range t.SAs {
		sa := &t.SAs[i]
		if sa.ID.Proto != klips.ProtoESP || sa.State != klips.Mature && sa.State != klips.Dying {
			continue
		}
		now[sa.ID] = true
		if !k.known[sa.ID] {
			c.Groups = append(c.Groups, render.Group{render.NewSA(sa)})
		}
	}
	if len(c.Groups) == 0 {
		k.known = now
		return nil
	}
	if _, err := sakeys.Read(ctx, k.env, s, c); err != nil {
		return err
	}
	text, err := render.Render("wireshark", c)
	defer text.Clear()
	if err != nil {
		return err
	}
	for _, n := range text.Notes {
		cli.Notef(k.env, "%s", n)
	}
	body := text.Body
	for k.begun && bytes.HasPrefix(body, []byte("#")) { // the comments are there already
		_, body, _ = bytes.Cut(body, []byte("\n"))
	}
	k.begun = true
	if _, err := k.file.Write(body); err != nil {
		return quote.FileError(k.name, err)
	}
	k.known = now
	return nil
}

func (k *keyFile) close() { k.file.Close() }
