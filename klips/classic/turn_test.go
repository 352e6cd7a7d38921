package classic_test

import (
	"context"
	"errors"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/netlock"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// TestApplyTakesTurns: others cannot take the lock during Apply, and Apply waits for others.
func TestApplyTakesTurns(t *testing.T) {
	s, k := stack(t)
	var others netlock.Lock
	ended, end := context.WithCancel(t.Context())
	end()
	var during error
	k.Hook(func(int, *pfkey.Message, *module.Module) { _, during = others.Acquire(ended) })
	if _, err := s.Apply(t.Context(), klips.ClearSAs{}); err != nil {
		t.Error(err)
	}
	k.Hook(nil)
	if during != context.Canceled {
		t.Errorf("during Apply another's Acquire = %v, want that it waits", during)
	}

	release, err := others.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, err = s.Apply(ended, klips.ClearSAs{})
	var oe *klips.OpError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &oe) || oe.Op != (klips.ClearSAs{}).Op() {
		t.Errorf("Apply while another has the lock = %v, want that it waits", err)
	}
}
