package xfrm

import (
	"bytes"
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// TestReadKeys: the keys of an SA that was made by commands are given, and those of other
// programs are not; zeros are no keys.
func TestReadKeys(t *testing.T) {
	m := newMemory()
	s := m.stack(few)
	id := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoESP}
	spec := &klips.SASpec{ID: id, Src: here, Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: bytes.Repeat([]byte{7}, 20), Window: 64}
	if _, err := s.Apply(t.Context(), klips.AddSA{SASpec: spec}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", t.TempDir()} {
		s.KeepMarks(dir)
		k, err := s.ReadKeys(t.Context(), id)
		if err != nil || !bytes.Equal(k.EncKey, spec.EncKey) || k.AuthKey != nil || k.Marked != (dir != "") {
			t.Errorf("ReadKeys = %d and %d bytes, %v, %v, want the key", len(k.EncKey), len(k.AuthKey), k.Marked, err)
		}
		k.Clear()
	}
	other := id
	other.SPI = 0x1001
	for _, state := range m.states {
		foreign := copyState(state)
		foreign.SPI = uint32(other.SPI)
		m.states[stateKey{foreign.ID, foreign.Mark}] = foreign
		break
	}
	if k, err := s.ReadKeys(t.Context(), other); !errors.Is(err, syscall.ESRCH) || k.EncKey != nil {
		t.Errorf("ReadKeys of another program's = %d bytes, %v, want ESRCH", len(k.EncKey), err)
	}
	s.xfrm = &masked{memory: m}
	if k, err := s.ReadKeys(t.Context(), id); !errors.Is(err, syscall.ESRCH) || k.EncKey != nil {
		t.Errorf("ReadKeys where another program has a state with a mask = %d bytes, %v, want ESRCH", len(k.EncKey), err)
	}
	s.xfrm = m
	for _, state := range m.states {
		state.AEAD.Key.Clear() // as a locked-down kernel shows it
	}
	var op *klips.OpError
	if k, err := s.ReadKeys(t.Context(), id); !errors.Is(err, syscall.EACCES) || !errors.As(err, &op) || op.Reason == "" || k.EncKey != nil {
		t.Errorf("ReadKeys of zeros = %d bytes, %v, want EACCES with a reason", len(k.EncKey), err)
	}
}

// A masked kernel has beside each state one of another program, with a mask, and finds it first.
type masked struct{ *memory }

func (m *masked) GetState(ctx context.Context, id nlxfrm.ID, mark nlxfrm.Mark) (*nlxfrm.State, error) {
	s, err := m.memory.GetState(ctx, id, mark)
	if err == nil {
		s.Mark.Mask = 0xff
	}
	return s, err
}
