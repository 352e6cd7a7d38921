package kernel

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/procfs"
)

// Table returns a table as the kernel shows it, such as "ipsec_spi".
func (s *Stack) Table(_ context.Context, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(s.machine.ProcNet, name))
	if err != nil {
		return nil, &klips.OpError{Op: "list", Object: filepath.Join(s.machine.ProcNet, name), Err: err}
	}
	return b, nil
}

// parse reads a table and takes it apart.
func parse[T any](s *Stack, name string, parse func(io.Reader) (T, error)) (t T, err error) {
	b, err := s.Table(context.Background(), name)
	if err != nil {
		return t, err
	}
	if t, err = parse(bytes.NewReader(b)); err != nil {
		err = &klips.OpError{Op: "list", Object: filepath.Join(s.machine.ProcNet, name), Err: err}
	}
	return t, err
}

// groups are the lines of ipsec_spigrp.
func (s *Stack) groups() ([][]klips.SAID, error) {
	return parse(s, "ipsec_spigrp", procfs.ParseSPIGrp)
}

// Version returns the line of ipsec_version.
func (s *Stack) Version(context.Context) (string, error) {
	return parse(s, "ipsec_version", procfs.ParseVersion)
}

// SAs lists the SAs.
func (s *Stack) SAs(context.Context) ([]klips.SA, error) {
	sas, err := parse(s, "ipsec_spi", procfs.ParseSPI)
	if err != nil {
		return nil, err
	}
	groups, err := s.groups()
	if err != nil {
		return nil, err
	}
	procfs.JoinGroups(sas, groups)
	return sas, nil
}

// Eroutes lists the eroutes.
func (s *Stack) Eroutes(context.Context) ([]klips.Eroute, error) {
	return parse(s, "ipsec_eroute", procfs.ParseEroute)
}

// Devices lists the virtual devices.
func (s *Stack) Devices(context.Context) ([]klips.Device, error) {
	return parse(s, "ipsec_tncfg", procfs.ParseTncfg)
}

// Debug returns the debug masks.
func (s *Stack) Debug(context.Context) (klips.Debug, error) {
	return parse(s, "ipsec_klipsdebug", procfs.ParseKlipsdebug)
}

// GetSA returns one SA: its lifetimes from PF_KEY (GET), with times as KLIPS
// gives them, and the rest from the tables where they can be read. For an SA
// that was just made here, what ADD answered is enough.
func (s *Stack) GetSA(ctx context.Context, id klips.SAID) (klips.SA, error) {
	s.mu.Lock()
	r := s.added
	if s.owner != id {
		r = nil
	}
	s.mu.Unlock()
	if r == nil {
		var err error
		if r, err = s.call(ctx, "get SA", id.String(), pfkey.GetSA(id)); err != nil {
			return klips.SA{}, err
		}
	}
	sa := klips.SA{ID: id}
	if sas, err := s.SAs(ctx); err == nil {
		for i := range sas {
			if sas[i].ID == id {
				sa = sas[i]
			}
		}
	}
	if r.SARef != nil {
		sa.Ref, sa.RefHim = r.SARef.Me, r.SARef.Him
	}
	if l := r.LifeCurrent; l != nil {
		sa.Life.Allocations.Count, sa.Life.Bytes.Count = uint64(l.Allocations), l.Bytes
		sa.Life.AddTime.Count, sa.Life.UseTime.Count = l.AddTime, l.UseTime
	}
	return sa, nil
}
